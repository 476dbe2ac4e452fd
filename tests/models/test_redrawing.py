"""Redrawing the weights of layers as people write them."""

import typing

import keras
import numpy as np
import pytest
from helpers import as_array, assert_permutation, assert_same
from keras import layers, ops
from test_rewire_model import assert_unchanged, dense_model, values

from keras_parewire import (
    PARewired,
    register_axes,
    reinitialize,
    rewire_model,
    strength_report,
    strip_initializers,
)
from keras_parewire.models.kernel_axes import AXES_OF_LAYERS

X = np.ones((2, 8), "float32")


def arrays(layer):
    return [as_array(v).copy() for v in layer.weights]


def assert_redrawn(layer):
    """Asserts that every weight changes, and depends on the seed alone."""
    drawn = [arrays(layer)]
    for seed in (0, 0, 1):
        reinitialize(layer, seed=seed)
        drawn.append(arrays(layer))
    for before, one, same, other in zip(*drawn, strict=True):
        assert_same(one, same)
        assert not np.array_equal(one, other)
        assert not np.array_equal(one, before)


def in_a_model(*parts):
    return keras.Sequential([keras.Input((8,)), *parts])


class Own(layers.Layer):
    """Draws a kernel in its code."""

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], 4))

    def call(self, inputs):
        return ops.matmul(inputs, self.kernel)


def registered():
    class Block(Own):
        names: typing.ClassVar = []

        def __init_subclass__(cls):
            assert cls.__name__ not in Block.names, "registered twice"
            Block.names.append(cls.__name__)

    class Registered(Block):
        pass

    return Registered()


def with_a_keyword():
    class Tagged(Own):
        def __init_subclass__(cls, tag):
            cls.tag = tag

    class Sub(Tagged, tag=1):
        pass

    return Sub()


def final():
    class Final(Own):
        def __init_subclass__(cls):
            raise TypeError("no subclasses")

    return Final()


def exact():
    class Exact(Own):
        def build(self, input_shape):
            assert type(self) is Exact
            super().build(input_shape)

    return Exact()


def by_name():
    class Named(Own):
        @classmethod
        def from_config(cls, config):
            return Named(**config)

    return Named()


def without_keywords():
    class Bare(Own):
        def __init__(self, size):
            super().__init__()
            self.early = self.add_weight(
                name="early", shape=(size, size), initializer="random_normal"
            )

    return Bare(3)


def seed_of_another_kind():
    class Sized(Own):
        def __init__(self, seed=3, **kwargs):
            super().__init__(**kwargs)
            self.seed = seed

        def build(self, input_shape):
            shape = (input_shape[-1], self.seed)
            self.kernel = self.add_weight(name="kernel", shape=shape)

        def get_config(self):
            return {**super().get_config(), "seed": self.seed}

    return Sized()


def set_in_its_code():
    class Started(Own):
        def build(self, input_shape):
            super().build(input_shape)
            self.scale = keras.Variable(ops.ones(4), name="scale")
            self.scale.assign(2 * ops.ones(4))
            self.frozen = 3.0

    return Started()


HOOKS = [
    registered,
    with_a_keyword,
    final,
    exact,
    by_name,
    without_keywords,
    seed_of_another_kind,
]


@pytest.mark.parametrize("make", HOOKS)
def test_classes_with_hooks_and_seeds(make):
    assert_redrawn(in_a_model(make()))


def test_no_class_is_made():
    layer = registered()
    reinitialize(in_a_model(layer), seed=0)
    assert type(layer).names == ["Registered"]
    assert type(layer).__subclasses__() == []


def test_variables_made_from_values_start_from_them():
    layer = set_in_its_code()
    model = in_a_model(layer)
    layer.scale.assign(5 * ops.ones(4))
    before = as_array(layer.kernel).copy()
    reinitialize(model, seed=0)
    assert as_array(layer.scale).tolist() == [2.0] * 4
    assert not np.array_equal(as_array(layer.kernel), before)


def test_values_that_a_build_assigns():
    class Assigned(Own):
        def build(self, input_shape):
            super().build(input_shape)
            self.kernel.assign(ops.ones((8, 4)))

    model = in_a_model(Assigned())
    model.set_weights([np.zeros((8, 4))])
    reinitialize(model, seed=0)
    assert (as_array(model.weights[0]) == 1).all()


class Setting(layers.Layer):
    """Sets a weight of a layer inside it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)
        self.named = layers.Dense(3, kernel_initializer="zeros")

    def build(self, input_shape):
        for layer in (self.dense, self.named):
            layer.build(input_shape)
        self.dense.bias.assign(ops.arange(3.0))
        self.named.kernel.assign(ops.eye(input_shape[-1], 3))

    def call(self, inputs):
        return self.dense(inputs) + self.named(inputs)


class Within(layers.Layer):
    """Has a layer that sets weights inside it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.setting = Setting()

    def build(self, input_shape):
        self.setting.build(input_shape)

    def call(self, inputs):
        return self.setting(inputs)


@pytest.mark.parametrize("make", [Setting, Within])
def test_weights_that_a_holder_sets(make):
    layer = make()
    model = in_a_model(layer)
    setting = getattr(layer, "setting", layer)
    kernels = []
    for seed in (0, 0, 1):
        reinitialize(model, seed=seed)
        assert_same(as_array(setting.dense.bias), np.arange(3, dtype="float32"))
        assert_same(
            as_array(setting.named.kernel), np.eye(8, 3, dtype="float32")
        )
        kernels.append(as_array(setting.dense.kernel).copy())
    assert_same(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


@pytest.mark.parametrize("initializer", ["random_normal", None])
def test_weights_computed_from_others(initializer):
    class Twice(layers.Layer):
        def build(self, input_shape):
            self.one = self.add_weight(
                name="one", shape=(8, 4), initializer=initializer
            )
            self.two = self.add_weight(name="two", shape=(8, 4))
            self.two.assign(2 * self.one)

        def call(self, inputs):
            return ops.matmul(inputs, self.one + self.two)

    layer = Twice()
    model = in_a_model(layer)
    assert_redrawn(model)
    assert_same(as_array(layer.two), 2 * as_array(layer.one))


def test_parts_of_a_holder_that_sets_others():
    class Block(layers.Layer):
        def __init__(self, units=4, **kwargs):
            super().__init__(**kwargs)
            # Its config forgets the initializer.
            self.ones = layers.Dense(units, kernel_initializer=self.start)

        start = "ones"

        def build(self, input_shape):
            self.dense = layers.Dense(6)
            self.dense.build(input_shape)
            self.ones.build(input_shape)
            self.scale = self.add_weight((6,), "ones", "float32", name="scale")
            self.scale.assign(np.full(6, 0.5, "float32"))

        def call(self, inputs):
            return self.dense(inputs) * self.scale

    layer = Block()
    model = in_a_model(layer)
    Block.start = "zeros"
    kernels = []
    for seed in (0, 0, 1):
        reinitialize(model, seed=seed)
        assert (as_array(layer.scale) == 0.5).all()
        assert (as_array(layer.ones.kernel) == 1).all()
        kernels.append(as_array(layer.dense.kernel).copy())
    assert_same(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_what_holds_layers_is_made_again_once():
    made = []

    class Many(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            made.append(self)
            self.parts = [Function(4, abs) for _ in range(5)]

        def call(self, inputs):
            return sum(part(inputs) for part in self.parts)

    model = Many()
    model(X)
    made.clear()
    before = arrays(model)
    reinitialize(model, seed=0)
    assert len(made) <= 2  # Within a scope and without.
    assert not np.array_equal(before[0], arrays(model)[0])


class Function(layers.Dense):
    """Cannot be re-created from its config, which lacks the function."""

    def __init__(self, units, function, **kwargs):
        super().__init__(units, **kwargs)
        self.function = function


def test_named_initializers_draw_what_cannot_be_re_created():
    initializers = {"bias_initializer": "random_normal"}
    one = Function(4, abs, kernel_initializer="he_normal", **initializers)
    model = in_a_model(one, layers.Dense(3, **initializers))
    assert_redrawn(model)
    constrained = layers.Dense(
        4, kernel_constraint=lambda kernel: kernel, **initializers
    )
    assert_redrawn(in_a_model(constrained))


@pytest.mark.parametrize(
    ("base", "arguments", "shape"),
    [
        # The axes of its kernel are not those that its initializer reads.
        (layers.EinsumDense, ("abc,cde->abde", (None, 2, 3)), (None, 4, 5)),
        # Parts of its bias start from ones.
        (layers.LSTMCell, (3,), (None, 4)),
    ],
)
def test_initializers_that_tell_only_a_part_do_not_draw(base, arguments, shape):
    class Odd(base):
        def __init__(self, function, *args, **kwargs):
            super().__init__(*args, **kwargs)

    layer = Odd(abs, *arguments)
    layer.build(shape)
    before = values(layer)
    with pytest.raises(ValueError, match="of type Odd"):
        reinitialize(layer, seed=0)
    assert_unchanged(layer, before)


def test_a_build_that_leaves_sublayers_unbuilt():
    class Window(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(8)

        def build(self, input_shape):
            self.table = self.add_weight(
                name="table", shape=(8,), initializer="random_normal"
            )

        def call(self, inputs):
            return self.dense(inputs) + self.table

    model = in_a_model(Window(), Window())
    model(X)
    model.layers[0].dense.bias.assign(np.ones(8))
    reinitialize(model, seed=0)
    assert not as_array(model.layers[0].dense.bias).any()
    one, other = ([part.table, part.dense.kernel] for part in model.layers)
    for weights in zip(one, other, strict=True):
        assert not np.array_equal(*map(as_array, weights))


class Stubborn(Own):
    def __init__(self, function):
        super().__init__()
        self.function = function


def test_what_remains_is_named_in_one_short_error():
    model = in_a_model(
        layers.Dense(8),
        *(Stubborn(abs) for _ in range(2)),
        layers.Dense(8),
        Function(4, abs),
    )
    model.layers[-2].quantize("int8")
    before = values(model)
    with pytest.raises(ValueError, match="`layers` can leave others out") as e:
        reinitialize(model, seed=0)
    lines = str(e.value).splitlines()
    names = [layer.name for layer in model.layers]
    assert len(lines) == 2 and len(str(e.value)) < 700
    assert f"'{names[1]}', '{names[2]}' of type Stubborn: " in lines[0]
    assert lines[1] == f"'{names[3]}' of type Dense: quantization_mode='int8'"
    assert_unchanged(model, before)
    reinitialize(model, layers=[model.layers[0], model.layers[-1]], seed=0)


def test_a_given_initializer_draws_kernels_of_any_layer(monkeypatch):
    monkeypatch.setattr(
        "keras_parewire.models.kernel_axes.AXES_OF_LAYERS", dict(AXES_OF_LAYERS)
    )
    register_axes(Stubborn, lambda layer: {"kernel": ([0], [1])})
    model = in_a_model(Stubborn(abs))
    before = as_array(model.weights[0]).copy()
    [row] = reinitialize(model, kernel_initializer="he_normal", seed=0)
    assert row.skipped is None
    assert not np.array_equal(as_array(model.weights[0]), before)


def test_a_variable_from_outside_keeps_its_value():
    model = keras.Sequential([layers.Dense(4), Stubborn(abs)])
    model.temperature = keras.Variable(3.0, name="temperature")
    model(X)
    dense = model.layers[0]
    before = as_array(dense.kernel).copy()
    with pytest.warns(UserWarning, match=r"keep their values.*'temperature'"):
        reinitialize(model, layers=[dense, "temperature"], seed=0)
    assert float(as_array(model.temperature)) == 3.0
    assert not np.array_equal(as_array(dense.kernel), before)


class GAN(keras.Model):
    """Its parts are built; it is never called."""

    def __init__(self, wrap=lambda base: base):
        super().__init__()
        kernel = {"kernel_initializer": wrap(keras.initializers.HeNormal(1))}
        self.generator = keras.Sequential(
            [keras.Input((4,)), layers.Dense(8, **kernel)]
        )
        self.critic = [layers.Dense(6, **kernel), layers.Dense(1)]
        for layer in self.critic:
            layer.build((None, 8))


@pytest.mark.parametrize("kind", [GAN, layers.Layer])
def test_models_whose_parts_are_built(kind):
    model = GAN(PARewired)
    if kind is layers.Layer:
        model, holder = layers.Layer(), model
        model.parts = {"gan": holder}
    report = strength_report(model)
    assert [row.shape for row in report if row.skipped is None] == [
        (4, 8),
        (8, 6),
        (8, 1),
    ]
    before = arrays(model)
    rewire_model(model, seed=0)
    assert_permutation(before[0], as_array(model.weights[0]))
    reinitialize(model, seed=0)
    assert not np.array_equal(before[0], as_array(model.weights[0]))
    strip_initializers(model)
    gan = model if kind is GAN else model.parts["gan"]
    initializer = gan.generator.layers[0].kernel_initializer
    assert type(initializer) is keras.initializers.HeNormal


@pytest.mark.parametrize("function", [rewire_model, reinitialize])
def test_a_model_of_which_only_a_part_is_built(function):
    model = GAN()
    model.late = layers.Dense(3, name="late")
    before = values(model)
    with pytest.raises(ValueError, match=r"must be built.*\['late'\]"):
        function(model)
    assert_unchanged(model, before)
    model.late.build((None, 2))
    function(model)


def test_random_layers_draw_by_the_seed():
    # On PyTorch, Keras does not use the state of a `Dropout` without a seed.
    model = in_a_model(
        layers.Dense(40, use_bias=False),
        layers.Dropout(0.5, seed=3),
        keras.Sequential([keras.Input((40,)), layers.GaussianNoise(1.0)]),
    )
    outputs = []
    for seed in (0, 1, 0):
        reinitialize(model, seed=seed)
        weights = model.layers[0].get_weights()
        model.layers[0].set_weights([np.ones((8, 40))])
        outputs.append([as_array(model(X, training=True)) for _ in range(2)])
        model.layers[0].set_weights(weights)
    for one, other, same in zip(*outputs, strict=True):
        assert_same(one, same)
        assert not np.array_equal(one, other)
    # The parts of a model that trains keep theirs.
    model(X, training=True)
    states = [as_array(v) for v in model.non_trainable_variables]
    reinitialize(model, layers=[model.layers[0]], seed=0)
    for one, other in zip(states, model.non_trainable_variables, strict=True):
        assert_same(one, as_array(other))


def test_metrics_become_new():
    model = dense_model()
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(X, np.ones((2, 4)), verbose=0)
    assert any(as_array(v).any() for v in model.metrics_variables)
    reinitialize(model, seed=0)
    assert not any(as_array(v).any() for v in model.metrics_variables)


@pytest.fixture
def experts(monkeypatch):
    """A layer of eight experts, whose axes are registered."""

    class Experts(layers.Layer):
        def build(self, input_shape):
            self.matrices = self.add_weight(
                name="matrices", shape=(input_shape[-1], 64, 8)
            )

    monkeypatch.setattr(
        "keras_parewire.models.kernel_axes.AXES_OF_LAYERS", dict(AXES_OF_LAYERS)
    )
    register_axes(Experts, lambda layer: {"matrices": ([0], [1])})
    layer = Experts()
    layer.build((None, 256))
    return layer


@pytest.mark.parametrize("wrap", [PARewired, lambda base: base])
@pytest.mark.parametrize(
    ("base", "variance"),
    [
        ("he_normal", 2 / 256),
        ("glorot_uniform", 2 / (256 + 64)),
        (keras.initializers.VarianceScaling(1.0, "fan_out"), 1 / 64),
        (
            keras.initializers.VarianceScaling(input_axes=[2], output_axes=[1]),
            1 / 8,
        ),
        (keras.initializers.RandomNormal(stddev=0.5), 0.25),
    ],
)
def test_fans_are_counted_along_registered_axes(experts, wrap, base, variance):
    reinitialize(experts, kernel_initializer=wrap(base), seed=0)
    spread = as_array(experts.matrices).std()
    assert spread == pytest.approx(variance**0.5, rel=0.02)


@pytest.mark.parametrize(
    ("make", "shape", "fan_in"),
    [
        # Keras takes the last two axes of a transposed kernel for (in, out).
        (lambda k: layers.Conv2DTranspose(8, 3, **k), (None, 9, 9, 64), 9 * 8),
        (lambda k: layers.Conv2D(64, 3, groups=2, **k), (None, 9, 9, 64), 288),
        (
            lambda k: layers.EinsumDense("abc,bcd->abd", (4, 64), **k),
            (None, 4, 128),
            128,
        ),
    ],
)
def test_layers_of_keras_count_fans_as_they_do(make, shape, fan_in):
    layer = make({"kernel_initializer": "he_normal"})
    layer.build(shape)
    own = as_array(layer.kernel).std()
    reinitialize(layer, kernel_initializer="he_normal", seed=0)
    drawn = as_array(layer.kernel).std()
    assert drawn == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)
    assert drawn == pytest.approx(own, rel=0.03)
