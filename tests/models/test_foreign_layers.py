"""Layers and names as other people write them."""

import random

import keras
import numpy as np
import pytest
from helpers import as_array, assert_permutation, assert_same
from keras import layers, ops

from keras_parewire import (
    LookaheadPermutation,
    register_axes,
    reinitialize,
    rewire_model,
    strength_report,
)
from keras_parewire.models.kernel_axes import AXES_OF_LAYERS


@pytest.fixture(autouse=True)
def own_axes(monkeypatch):
    """What a test registers is forgotten."""
    before = dict(AXES_OF_LAYERS)
    yield
    AXES_OF_LAYERS.clear()
    AXES_OF_LAYERS.update(before)


def built(layer, *shape):
    layer(np.ones((2, *shape), "float32"))
    return layer


def arrays(layer):
    return [as_array(v).copy() for v in layer.weights]


class Unnamed(layers.Layer):
    """As Keras' guide to subclassing writes a layer."""

    def build(self, input_shape):
        self.w = self.add_weight(
            shape=(input_shape[-1], 6), initializer="he_normal"
        )
        self.b = self.add_weight(shape=(6,), initializer="zeros")

    def call(self, x):
        return x @ self.w + self.b


class NamedAfterItself(layers.Layer):
    def build(self, input_shape):
        self.w = self.add_weight(
            name=f"{self.name}_kernel", shape=(input_shape[-1], 6)
        )

    def call(self, x):
        return x @ self.w

    def get_config(self):
        return {}  # Its name is not kept.


class Inner(layers.Layer):
    """Names a sublayer after itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(6, name=f"{self.name}_inner")

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, x):
        return self.inner(x)


FOREIGN = [Unnamed, NamedAfterItself, Inner]


@pytest.mark.parametrize("layer_class", FOREIGN)
def test_any_name_can_be_reinitialized(layer_class):
    for _ in range(2):  # Automatic names count in the whole process.
        layer = built(layer_class(), 8)
        before = arrays(layer)
        reinitialize(layer, seed=1)
        assert not np.array_equal(before[0], as_array(layer.weights[0]))


@pytest.mark.parametrize("layer_class", FOREIGN)
def test_the_same_program_gives_the_same_bits(layer_class):
    if layer_class is not Inner:
        register_axes(layer_class, lambda layer: {"w": ([0], [1])})
    results = []
    for others in (0, 3):
        for _ in range(others):  # Unrelated, but counted by Keras.
            built(layer_class(), 8)
        model = keras.Sequential(
            [keras.Input((8,)), layer_class(), layer_class()]
        )
        reinitialize(model, seed=1)
        drawn = arrays(model)
        report = rewire_model(model, seed=1)
        assert sum(row.skipped is None for row in report) == 2
        results.append((drawn, arrays(model)))
    for one, other in zip(*results, strict=True):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)


def test_a_kernel_of_another_rank_is_left_alone():
    class Replicas(layers.Dense):
        def build(self, input_shape):
            self._kernel = self.add_weight(
                name="kernel", shape=(8, input_shape[-1], self.units)
            )
            self.bias = None
            self.built = True

        def call(self, x):
            return ops.einsum("bi,rio->bro", x, self._kernel)

    class Pointwise(layers.Conv2D):
        def build(self, input_shape):
            self._kernel = self.add_weight(
                name="kernel", shape=(input_shape[-1], self.filters)
            )
            self.bias = None

        def call(self, x):
            return x @ self._kernel

    for layer, shape in (
        (Replicas(6), (3,)),
        (Pointwise(6, 1), (4, 4, 3)),
    ):
        built(layer, *shape)
        before = arrays(layer)
        with pytest.warns(UserWarning, match="nothing is changed.*Received"):
            report = rewire_model(layer, seed=0)
        assert "register_axes" in report[0].skipped
        assert strength_report(layer)[0].skipped == report[0].skipped
        assert_same(before[0], as_array(layer.weights[0]))
    model = keras.Sequential([keras.Input((3,)), Replicas(6)])
    model.compile("sgd", "mse")
    with (
        pytest.warns(UserWarning, match="register_axes"),
        pytest.raises(ValueError, match="must have kernels"),
    ):
        model.fit(
            np.ones((2, 3)),
            np.ones((2, 8, 6)),
            verbose=0,
            callbacks=[LookaheadPermutation(1)],
        )
    # Registered, each replica is rewired by itself.
    register_axes(Replicas, lambda layer: {"kernel": ([1], [2])})
    layer = built(Replicas(6), 3)
    before = arrays(layer)[0]
    assert rewire_model(layer, seed=0)[0].groups == 8
    for one, other in zip(before, as_array(layer.weights[0]), strict=True):
        assert_permutation(one, other)


def test_a_trained_model_is_noticed_by_any_constant_start():
    """If the layer names the constant, as that of Keras do."""

    def make():
        return keras.Sequential(
            [
                keras.Input((8,)),
                layers.Dense(6, use_bias=False, name="dense"),
                layers.LayerNormalization(name="norm"),
            ]
        )

    trained, copy = make(), make()
    state = random.getstate()
    rewire_model(copy, seed=0)  # New models give no warning, which would raise.
    assert random.getstate() == state
    trained.compile("sgd", "mse")
    trained.fit(np.ones((4, 8)), np.zeros((4, 6)), verbose=0)
    copy.set_weights(trained.get_weights())
    with pytest.warns(UserWarning, match="seem to have been trained.*norm"):
        rewire_model(copy, seed=0)


def test_a_borrowed_kernel_belongs_to_the_layer_that_made_it():
    class Borrow(layers.Layer):
        def __init__(self, lender, **kwargs):
            super().__init__(**kwargs)
            self.kernel = lender.kernel

        def call(self, x):
            return x @ ops.transpose(self.kernel)

    class Tied(keras.Model):
        def __init__(self):
            super().__init__()
            encoder = layers.Dense(6, name="encoder")
            encoder.build((None, 8))
            self.first = Borrow(encoder)
            self.second = encoder

        def call(self, x):
            return self.first(self.second(x))

    model = Tied()
    model(np.ones((2, 8)))
    before = as_array(model.second.kernel).copy()
    report = rewire_model(model, seed=0)
    [row] = [row for row in report if row.skipped is None]
    assert row.path.endswith("encoder/kernel")
    assert_permutation(before, as_array(model.second.kernel))
    reinitialize(model, seed=0)
    assert not np.array_equal(
        np.sort(before, axis=None),
        np.sort(as_array(model.second.kernel), axis=None),
    )


def test_a_weight_is_known_by_what_its_layer_calls_it():
    class Prefixed(layers.Dense):
        def add_weight(self, *args, name=None, **kwargs):
            name = f"{self.name}_{name}"
            return layers.Layer.add_weight(self, *args, name=name, **kwargs)

    class PrefixedSeparable(layers.SeparableConv1D):
        add_weight = Prefixed.__dict__["add_weight"]

    dense = built(Prefixed(6), 8)
    reasons = [row.skipped for row in rewire_model(dense, seed=0)]
    assert reasons == [None, "bias"]
    separable = built(PrefixedSeparable(6, 3), 8, 4)
    depthwise, *reasons = [row.skipped for row in rewire_model(separable)]
    assert depthwise.startswith("depthwise")
    assert reasons == [None, "bias"]


def test_only_what_adapt_has_measured_stays():
    class Option(layers.Dense):
        adapt = True

    class Measuring(layers.Layer):
        def build(self, input_shape):
            size = input_shape[-1]
            self.kernel = self.add_weight(name="kernel", shape=(size, 6))
            self.mean = self.add_weight(
                name="mean", shape=(size,), initializer="zeros", trainable=False
            )

        def adapt(self, data):
            self.mean.assign(np.mean(data, axis=0))

        def call(self, x):
            return (x - self.mean) @ self.kernel

    for layer in (Option(6), Measuring()):
        built(layer, 8)
        kernel = as_array(layer.weights[0]).copy()
        if isinstance(layer, Measuring):
            layer.adapt(np.full((2, 8), 3.0))
        reinitialize(layer, seed=0)
        assert not np.array_equal(kernel, as_array(layer.weights[0]))
    assert as_array(layer.mean).tolist() == [3.0] * 8


class HouseLayer(layers.Layer):
    def add_weight(
        self, shape=None, initializer=None, dtype=None, name=None, **kwargs
    ):
        return super().add_weight(
            shape=shape,
            initializer=initializer or "he_normal",
            dtype=dtype or "float32",
            name=name or "weight",
            **kwargs,
        )


class NameFirst(layers.Layer):
    def add_weight(self, name, shape, init="orthogonal"):
        return super().add_weight(shape=shape, initializer=init, name=name)


@pytest.mark.parametrize(
    ("base", "arguments"),
    [
        (HouseLayer, [((8, 8), "he_normal", "float32", "w"), ((8, 8),)]),
        (NameFirst, [("w", (8, 8)), ("v", (8, 8), "random_normal")]),
    ],
)
def test_a_house_layer_with_its_own_add_weight(base, arguments):
    class Own(base):
        def build(self, input_shape):
            for given in arguments:
                self.add_weight(*given)

        def call(self, x):
            return x

    drawn = []
    for seed in (0, 0, 1):
        layer = built(Own(), 8)
        reinitialize(layer, seed=seed)
        drawn.append(arrays(layer))
    for one, same, other in zip(*drawn, strict=True):
        assert_same(one, same)
        assert not np.array_equal(one, other)


def test_adapters_are_drawn_anew_with_their_layer():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6)])
    model.layers[0].enable_lora(2)
    before = arrays(model)
    reinitialize(model, seed=0)
    for variable, old in zip(model.weights, before, strict=True):
        same = np.array_equal(as_array(variable), old)
        assert same == (variable.name in ("bias", "lora_kernel_b"))
