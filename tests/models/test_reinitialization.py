import functools
import itertools
import json
import random
import subprocess
import sys
import threading
import warnings
import zipfile
from unittest import mock

import keras
import numpy as np
import pytest
from helpers import (
    as_array,
    assert_permutation,
    assert_same,
    child_environment,
)
from keras import layers
from test_rewire_model import assert_unchanged, dense_model, mixed, values

from keras_parewire import (
    ChannelAverage,
    PARewired,
    StrengthStabilized,
    reinitialize,
    rewire_model,
    strength_report,
    strip_initializers,
)

X = np.random.default_rng(0).random((16, 8), np.float32)
Y = np.random.default_rng(1).random((16, 4), np.float32)


@pytest.mark.slow
def test_every_weight_is_new_and_as_its_initializer_makes_it():
    model = mixed()
    fresh = values(model)
    for variable in model.weights:
        variable.assign(as_array(variable) + 1)
    reinitialize(model, seed=0)
    for variable in model.weights:
        now, old = as_array(variable), fresh[id(variable)]
        if np.ptp(old) == 0 or "lstm_cell/bias" in variable.path:
            # Zeros, ones, and the ones that an LSTM forgets with.
            assert_same(now, old)
        else:
            assert not np.array_equal(now, old)
            if old.size > 100:
                assert now.std() == pytest.approx(old.std(), rel=0.35)


@pytest.mark.slow
def test_seeds():
    drawn = []
    for seed in (0, 0, 1):
        model = mixed()
        reinitialize(model, seed=seed)
        drawn.append([as_array(v) for v in model.weights])
    for one, other in zip(drawn[0], drawn[1], strict=True):
        assert_same(one, other)
    assert not np.array_equal(drawn[0][0], drawn[2][0])


def test_again_and_again():
    model = dense_model()
    first = []
    for seed in (0, 1, 0):
        reinitialize(model, seed=seed)
        first.append(as_array(model.layers[0].kernel).copy())
    assert_same(first[0], first[2])
    assert not np.array_equal(first[0], first[1])
    reinitialize(model)
    assert not np.array_equal(first[0], as_array(model.layers[0].kernel))


@pytest.mark.parametrize("wrap", [PARewired, StrengthStabilized, None])
def test_seeds_of_initializers_are_set_aside(wrap):
    base = keras.initializers.HeNormal(seed=3)
    model = keras.Sequential([keras.Input((8,))])
    for _ in range(2):
        model.add(
            layers.Dense(8, kernel_initializer=wrap(base) if wrap else base)
        )
    reinitialize(model, seed=0)
    one, other = (np.sort(as_array(x.kernel), axis=None) for x in model.layers)
    assert not np.array_equal(one, other)


@pytest.mark.slow
def test_never_sets_the_global_random_state(monkeypatch):
    # Other threads may draw from it, stock initializers for example.
    model = mixed()
    for function in ("seed", "setstate", "getstate"):
        error = mock.Mock(side_effect=RuntimeError)
        monkeypatch.setattr(random, function, error)
    reinitialize(model, seed=0)


def test_other_threads_draw_no_number_twice():
    model = dense_model()
    drawn, done = [], threading.Event()

    def draw():
        while not done.wait(1e-4):
            drawn.append(random.random())

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for seed in range(5):
            reinitialize(model, seed=seed)
    finally:
        done.set()
        thread.join()
    assert len(drawn) == len(set(drawn)) > 0


def test_draws_nothing_where_configs_take_all_seeds():
    model = dense_model()
    state = random.getstate()
    reinitialize(model, seed=0)
    assert random.getstate() == state


class Fixed(layers.Layer):
    """Draws its weights in ways that its config knows nothing of."""

    def __init__(self, initializer="he_normal", **kwargs):
        super().__init__(**kwargs)
        self.initializer = keras.initializers.get(initializer)
        self.early = self.add_weight(name="early", shape=(8, 8))

    def build(self, input_shape):
        clones = [self.initializer.clone() for _ in range(2)]
        for number, initializer in enumerate(
            [*clones, "orthogonal", keras.initializers.RandomNormal()]
        ):
            self.add_weight(
                name=f"weight{number}", shape=(8, 8), initializer=initializer
            )
        self.add_weight((8, 8), "he_uniform", name="positional")

    def call(self, inputs):
        return inputs

    def get_config(self):
        config = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "initializer": config}


def test_initializers_in_the_code_of_a_layer_are_seeded():
    drawn = []
    model = keras.Sequential([keras.Input((8,)), Fixed()])
    for seed in (0, 0, 1):
        reinitialize(model, seed=seed)
        drawn.append([as_array(v).copy() for v in model.weights])
    for one, same, other in zip(*drawn, strict=True):
        assert_same(one, same)
        assert not np.array_equal(one, other)
    # Clones of one initializer too draw values of their own.
    for one, other in itertools.combinations(drawn[0], 2):
        assert not np.array_equal(one, other)


class Holder(layers.Layer):
    """Only this can be re-created, not the layers inside it."""

    def __init__(self, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.initializer = initializer
        self.parts = [Held(initializer, lambda x: x) for _ in range(2)]

    def build(self, input_shape):
        for part in self.parts:
            part.build(input_shape)

    def call(self, inputs):
        return inputs

    def get_config(self):
        return {**super().get_config(), "initializer": self.initializer}


class Held(layers.Layer):
    def __init__(self, initializer, function):
        super().__init__()
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], 5),
            initializer=self.initializer,
        )

    def get_config(self):
        raise AttributeError("no config")


def test_layers_drawn_with_the_one_around_them_are_seeded():
    drawn = []
    model = keras.Sequential([keras.Input((8,)), Holder()])
    for seed in (0, 0, 1):
        reinitialize(model, seed=seed)
        drawn.append([as_array(v).copy() for v in model.weights])
    assert_same(drawn[0][0], drawn[1][0])
    assert_same(drawn[0][1], drawn[1][1])
    assert not np.array_equal(drawn[0][0], drawn[2][0])
    assert not np.array_equal(drawn[0][0], drawn[0][1])


def test_a_wrapper_keeps_the_values_of_the_plain_base():
    kernels = []
    for initializer in ("he_normal", PARewired("he_normal")):
        model = dense_model(kernel_initializer=initializer)
        reinitialize(model, seed=0)
        kernels.append(as_array(model.layers[0].kernel).copy())
    assert_permutation(*kernels)
    assert not np.array_equal(*kernels)


class Trained(keras.Model):
    """Steps an optimizer of its own."""

    def __init__(self):
        super().__init__()
        self.body, self.head = layers.Dense(6), layers.Dense(2)

    def compile(self, **kwargs):
        super().compile(**kwargs)
        self.optimizers = {"head": keras.optimizers.Adam()}

    def call(self, inputs):
        return self.head(self.body(inputs))


@pytest.mark.slow
def test_optimizers_of_a_models_own():
    model = Trained()
    model(X)
    model.compile(optimizer=None)
    model.optimizer = None
    rewire_model(model)
    own = model.optimizers["head"]
    own.build(model.head.trainable_variables)
    own.apply([keras.ops.ones(v.shape) for v in model.head.trainable_variables])
    with pytest.raises(ValueError, match="after 1 optimizer steps"):
        rewire_model(model)
    reinitialize(model)
    assert all(
        not as_array(v).any()
        for v in own.variables
        if len(v.shape) or v.name == "iteration"
    )
    rewire_model(model)


def test_dtypes_that_are_no_strings():
    class Own(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight((8, 2), dtype=np.float32, name="a")

        def call(self, inputs):
            return inputs @ self.scale

    model = keras.Sequential([keras.Input((8,)), Own()])
    before = as_array(model.layers[0].scale).copy()
    reinitialize(model, seed=0)
    assert not np.array_equal(before, as_array(model.layers[0].scale))


def test_no_warning_of_keras_gets_through():
    class Own(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.scale = self.add_weight(name="scale", shape=(8, 2))
            self.inner = Counted()

        def call(self, inputs):
            return self.inner(inputs)

    model = keras.Sequential([keras.Input((8,))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.add(Own())
    before = as_array(model.layers[0].scale).copy()
    reinitialize(model, layers=["own.*/scale"])  # Warnings are errors here.
    assert not np.array_equal(before, as_array(model.layers[0].scale))


@pytest.mark.backend("torch")
def test_models_on_the_meta_device():
    with keras.device("meta"):
        model = dense_model()
    for function in (reinitialize, rewire_model, strength_report):
        with pytest.raises(ValueError, match="on the meta device"):
            function(model)


@keras.saving.register_keras_serializable("tests")
class Drawn(keras.initializers.Initializer):
    """Draws from NumPy, as initializers of others may."""

    def __init__(self, seed=None):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        values = np.random.default_rng(self.seed).normal(size=shape)
        return keras.ops.convert_to_tensor(values, dtype)

    def get_config(self):
        return {"seed": self.seed}


def test_initializers_of_others_get_a_seed_of_the_model():
    model = dense_model(kernel_initializer=Drawn(7))
    given = as_array(model.layers[0].kernel).copy()
    drawn = []
    for _ in range(2):
        reinitialize(model, seed=0)
        drawn.append(as_array(model.layers[0].kernel).copy())
    assert_same(*drawn)
    assert not np.array_equal(drawn[0], given)


def test_a_seed_that_a_layer_requires():
    @keras.saving.register_keras_serializable("tests")
    class Features(layers.Layer):
        def __init__(self, seed, **kwargs):
            super().__init__(**kwargs)
            self.seed = int(seed)

        def build(self, input_shape):
            self.features = self.add_weight(
                name="features",
                shape=(input_shape[-1], 4),
                initializer=keras.initializers.RandomNormal(seed=self.seed),
            )

        def call(self, inputs):
            return keras.ops.matmul(inputs, self.features)

        def get_config(self):
            return {**super().get_config(), "seed": self.seed}

    model = keras.Sequential([keras.Input((8,)), Features(3)])
    given = as_array(model.weights[0]).copy()
    reinitialize(model, seed=0)
    assert not np.array_equal(as_array(model.weights[0]), given)


@pytest.mark.backend("torch")
def test_a_pytorch_module_is_an_error():
    import torch

    module = keras.layers.TorchModuleWrapper(torch.nn.Linear(8, 4))
    model = keras.Sequential([module, layers.Dense(4)])
    model(X)
    before = values(model)
    with pytest.raises(ValueError, match="of type TorchModuleWrapper"):
        reinitialize(model)
    assert_unchanged(model, before)
    reinitialize(model, layers=[model.layers[1]])


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantized_layers_are_an_error(mode):
    model = dense_model()
    model.layers[0].quantize(mode)
    before = values(model)
    with pytest.raises(ValueError, match=f"quantization_mode='{mode}'"):
        reinitialize(model)
    assert_unchanged(model, before)
    reinitialize(model, layers=[model.layers[1]])


def test_paired_with_the_rewiring():
    # What a study of rewiring does: the same draw, plain and rewired.
    model = dense_model()
    reinitialize(model, seed=4)
    plain = as_array(model.layers[0].kernel).copy()
    reinitialize(model, seed=4)
    rewire_model(model, seed=4)
    assert_same(
        np.sort(plain, axis=None),
        np.sort(as_array(model.layers[0].kernel), axis=None),
    )


class Counted(layers.Layer):
    """Counts how often it is traced."""

    calls = 0

    def call(self, inputs):
        Counted.calls += 1
        return inputs


@pytest.mark.slow
def test_a_kept_model_trains_by_the_seed_alone():
    """The loop of the guide, in any order and without compiling again."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, "relu"),
            layers.BatchNormalization(),
            Counted(),
            layers.Dropout(0.5),
            layers.Dense(4),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"])
    # The first `fit` of a model draws one batch more than the others.
    model.fit(X, Y, batch_size=4, verbose=0)
    runs, counts = {0: [], 1: []}, []
    for seed in (0, 1, 1, 0):
        reinitialize(model, seed=seed)
        assert int(as_array(model.optimizer.iterations)) == 0
        counts.append(Counted.calls)
        keras.utils.set_random_seed(seed)
        history = model.fit(X, Y, batch_size=4, epochs=2, verbose=0).history
        runs[seed].append((history, model.get_weights()))
    for one, other in runs.values():
        assert one[0] == other[0]
        for weights in zip(one[1], other[1], strict=True):
            assert_same(*weights)
    assert runs[0][0][0] != runs[1][0][0]
    if keras.backend.backend() != "torch":  # Which runs eagerly.
        assert len(set(counts)) == 1


def test_the_learning_rate_is_kept():
    model = dense_model()
    model.compile(keras.optimizers.Adam(0.5), "mse")
    model.fit(X, Y, verbose=0)
    model.optimizer.learning_rate = 0.25
    reinitialize(model)
    assert float(as_array(model.optimizer.learning_rate)) == 0.25


def test_chosen_layers():
    model = dense_model()
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    before = values(model)
    steps = int(as_array(model.optimizer.iterations))
    reinitialize(model, layers=[model.layers[1]])
    assert int(as_array(model.optimizer.iterations)) == steps > 0
    for variable in model.layers[0].weights:
        assert_same(as_array(variable), before[id(variable)])
    kernel, bias = model.layers[1].weights
    assert not np.array_equal(as_array(kernel), before[id(kernel)])
    assert not as_array(bias).any()


def test_what_was_measured_is_kept():
    measured = layers.Normalization()
    measured.adapt(X)
    model = keras.Sequential([keras.Input((8,)), measured, layers.Dense(4)])
    before = values(model)
    reinitialize(model)
    rewire_model(model)  # It does not take them for trained.
    for variable in measured.weights:
        assert_same(as_array(variable), before[id(variable)])


@pytest.mark.slow
def test_attention_draws_each_kernel_with_its_scale():
    layer = layers.MultiHeadAttention(8, 16)
    layer(np.ones((1, 2, 64)), np.ones((1, 2, 64)))
    before = {v.path: as_array(v).std() for v in layer.weights}
    reinitialize(layer, seed=0)
    kernels = [v for v in layer.weights if v.name == "kernel"]
    for variable in kernels:
        spread = as_array(variable).std()
        assert spread == pytest.approx(before[variable.path], rel=0.05)
    assert not np.array_equal(as_array(kernels[0]), as_array(kernels[1]))


def test_lora():
    model = dense_model()
    model.layers[0].enable_lora(2)
    reinitialize(model, seed=0)
    adapters = [v for v in model.layers[0].weights if "lora" in v.name]
    assert as_array(adapters[0]).any() and not as_array(adapters[1]).any()


class Fickle(layers.Layer):
    """Has other weights when it is made from its config."""

    size = 3

    def build(self, input_shape):
        self.table = self.add_weight(name="table", shape=(Fickle.size,))

    def call(self, inputs):
        return inputs


def test_a_layer_that_is_another_when_made_again(monkeypatch):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4), Fickle()])
    before = values(model)
    monkeypatch.setattr(Fickle, "size", 5)
    with pytest.raises(
        ValueError, match=r"of type Fickle: when re-created.*\[\(5,\)\], not"
    ):
        reinitialize(model)
    assert_unchanged(model, before)


def test_subclassed_models():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [layers.Dense(8) for _ in range(2)]

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    model = Net()
    model(X)
    before = values(model)
    reinitialize(model, seed=0)
    for block in model.blocks:
        assert not np.array_equal(
            as_array(block.kernel), before[id(block.kernel)]
        )


def test_wrong_arguments():
    with pytest.raises(TypeError, match="must be a Keras model"):
        reinitialize("model")
    with pytest.raises(ValueError, match="must be built"):
        reinitialize(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(TypeError, match="seed='one'"):
        reinitialize(dense_model(), seed="one")
    with pytest.raises(TypeError, match="must be a Keras model"):
        strip_initializers("model")


def organized():
    """A model that names our initializers wherever it can."""
    wrap = PARewired(StrengthStabilized("he_normal", candidates=2))
    x = inputs = keras.Input((4, 6))
    x = layers.MultiHeadAttention(2, 3, kernel_initializer=wrap)(x, x)
    x = layers.Bidirectional(
        layers.LSTM(3, kernel_initializer=wrap, return_sequences=True)
    )(x)
    x = layers.SeparableConv1D(
        4, 2, depthwise_initializer=wrap, pointwise_initializer=wrap
    )(x)
    x = layers.TimeDistributed(
        layers.Dense(3, kernel_initializer=PARewired("ones"))
    )(x)
    x = layers.EinsumDense("abc,cd->abd", (None, 3), kernel_initializer=wrap)(x)
    nested = keras.Sequential([keras.Input((3, 3)), layers.Flatten()])
    nested.add(layers.Dense(2, kernel_initializer=wrap))
    return keras.Model(inputs, nested(x))


def config_of(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read("config.json").decode()


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_stripped_model_loads_without_the_package(tmp_path):
    model = organized()
    data = np.random.default_rng(0).random((2, 4, 6), np.float32)
    expected = model.predict(data, verbose=0)
    model.save(tmp_path / "organized.keras")
    assert "keras_parewire" in config_of(tmp_path / "organized.keras")
    before = values(model)
    strip_initializers(model)
    assert_unchanged(model, before)
    model.save(tmp_path / "plain.keras")
    assert "keras_parewire" not in config_of(tmp_path / "plain.keras")
    np.savez(tmp_path / "expected.npz", data=data, expected=expected)
    code = f"""
import sys
sys.modules["keras_parewire"] = None  # As if it were not installed.
import keras, numpy as np
model = keras.saving.load_model({str(tmp_path / "plain.keras")!r})
saved = np.load({str(tmp_path / "expected.npz")!r})
predicted = model.predict(saved["data"], verbose=0)
np.testing.assert_allclose(predicted, saved["expected"], atol=1e-5)
"""
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=child_environment(), check=True)


@pytest.mark.slow
def test_strip_keeps_the_base_and_the_seeds():
    model = organized()
    strip_initializers(model)
    config = json.dumps(model.get_config())
    assert "HeNormal" in config
    dense = dense_model(kernel_initializer=PARewired("he_normal"))
    strip_initializers(dense)
    for layer in dense.layers[:1]:
        assert type(layer.kernel_initializer) is keras.initializers.HeNormal


class Hidden(layers.Layer):
    """Keeps an initializer where it is not looked for."""

    def __init__(self, options):
        super().__init__()
        self.options = options

    def get_config(self):
        return {**super().get_config(), "options": self.options}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hidden({"initializer": PARewired()}),
        lambda: layers.Dense(4, kernel_initializer=ChannelAverage()),
    ],
)
def test_strip_does_all_or_nothing(make):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(4, kernel_initializer=PARewired()),
            make(),
        ]
    )
    with pytest.raises(ValueError, match=r"type (Hidden|Dense), whose config"):
        strip_initializers(model)
    assert isinstance(model.layers[0].kernel_initializer, PARewired)


class Failing(layers.Layer):
    error = AttributeError

    def get_config(self):
        raise self.error("no config")


def test_strip_of_a_model_that_cannot_be_saved():
    model = keras.Sequential([keras.Input((8,)), Failing()])
    model.add(layers.Dense(4, kernel_initializer=PARewired("he_normal")))
    strip_initializers(model)
    kernel_initializer = model.layers[1].kernel_initializer
    assert type(kernel_initializer) is keras.initializers.HeNormal


def test_strip_undoes_all_when_interrupted(monkeypatch):
    monkeypatch.setattr(Failing, "error", KeyboardInterrupt)
    model = keras.Sequential([keras.Input((8,)), Failing()])
    model.add(layers.Dense(4, kernel_initializer=PARewired("he_normal")))
    with pytest.raises(KeyboardInterrupt):
        strip_initializers(model)
    assert isinstance(model.layers[1].kernel_initializer, PARewired)


def test_strip_looks_at_what_a_model_itself_names():
    class Net(keras.Model):
        def __init__(self, initializers):
            super().__init__()
            self.initializers = initializers
            self.dense = layers.Dense(3, kernel_initializer=initializers[0])

        def call(self, x):
            return self.dense(x)

        def get_config(self):
            return {
                "initializers": [
                    keras.saving.serialize_keras_object(initializer)
                    for initializer in self.initializers
                ]
            }

    with pytest.raises(ValueError, match="of type Net, whose config"):
        strip_initializers(Net([PARewired()]))


def test_strip_of_a_plain_model_changes_nothing():
    model = mixed()
    config = model.get_config()
    strip_initializers(model)
    assert model.get_config() == config


# Kernels from an initializer that is given.


def mixed_model():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="conv")(x)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2DTranspose(6, 3, name="transposed")(x)
    x = layers.Reshape((-1, 6))(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.Dense(5, name="dense")(x)
    return keras.Model(inputs, x)


def kernels_of(model):
    return [as_array(v).copy() for v in model.weights if v.name == "kernel"]


WRAPPED = {
    "PARewired": PARewired,
    "StrengthStabilized": functools.partial(StrengthStabilized, candidates=1),
}


@pytest.mark.parametrize("wrapper", list(WRAPPED.values()), ids=list(WRAPPED))
def test_a_wrapper_starts_from_the_values_of_its_base(wrapper):
    model = mixed_model()
    base = keras.initializers.HeNormal()
    assert reinitialize(model, seed=1) is None
    others = [as_array(v).copy() for v in model.weights if v.name != "kernel"]
    drawn = []
    for initializer in (base, wrapper(base), wrapper("he_normal")):
        reinitialize(model, kernel_initializer=initializer, seed=1)
        drawn.append(kernels_of(model))
    for plain, *wrapped in zip(*drawn, strict=True):
        for one in wrapped:
            assert_permutation(one, plain)
    # All other weights come from their own initializers.
    left = [as_array(v) for v in model.weights if v.name != "kernel"]
    for one, other in zip(others, left, strict=True):
        assert_same(one, other)


def test_the_initializer_of_the_layers_gives_what_they_draw():
    model = mixed_model()
    reinitialize(model, seed=1)
    own = kernels_of(model)
    reinitialize(model, kernel_initializer="glorot_uniform", seed=1)
    for one, other in zip(own, kernels_of(model), strict=True):
        assert_same(one, other)


def test_kernels_change_along_their_true_axes():
    model = mixed_model()
    reinitialize(model, kernel_initializer="he_normal", seed=1)
    plain = strength_report(model)
    report = reinitialize(
        model, kernel_initializer=PARewired("he_normal", exponent=10), seed=1
    )
    rewired = strength_report(model)
    assert report.seed == 1
    for row, before, after in zip(report, plain, rewired, strict=True):
        assert row.skipped == before.skipped == after.skipped
        assert (row.groups, row.after) == (before.groups, after.after)
        if row.skipped is None:
            assert after.after < before.after / 3
    grouped = model.get_layer("grouped").kernel
    reinitialize(model, kernel_initializer="he_normal", seed=1)
    halves = [
        np.split(as_array(x), 2, axis=-1)
        for x in (grouped, model.get_layer("grouped").kernel)
    ]
    for one, other in zip(*halves, strict=True):
        assert_permutation(one, other)


def test_chosen_kernels_only():
    model = mixed_model()
    reinitialize(model, seed=1)
    before = kernels_of(model)
    report = reinitialize(
        model, kernel_initializer="zeros", layers=["dense"], seed=1
    )
    done = [row.path for row in report if row.skipped is None]
    assert done == [model.get_layer("dense").kernel.path]
    for one, other in zip(before[:-1], kernels_of(model)[:-1], strict=True):
        assert_same(one, other)
    assert not kernels_of(model)[-1].any()


def test_a_metric_that_fails_changes_no_weight():
    class Failing(keras.metrics.MeanAbsoluteError):
        def reset_state(self):
            if done:
                raise ArithmeticError("no luck")
            super().reset_state()

    done, model = [], dense_model()
    model.compile("sgd", "mse", metrics=[Failing()])
    outputs = model.compute_output_shape((2, 8))
    model.fit(np.ones((2, 8)), np.ones(outputs), verbose=0)
    before = [as_array(v).copy() for v in model.weights]
    done.append(True)
    with pytest.raises(ArithmeticError, match="no luck"):
        reinitialize(model, seed=0)
    for variable, old in zip(model.weights, before, strict=True):
        assert_same(variable.value, old)


@pytest.mark.parametrize(
    ("initializer", "error", "text"),
    [
        ("orthogonall", ValueError, "kernel_initializer='orthogonall'"),
        (lambda shape, dtype: np.ones(3), ValueError, "of the kernel's shape"),
        (lambda shape, dtype: np.full(shape, np.nan), ValueError, "NaN"),
    ],
)
def test_a_wrong_kernel_initializer_changes_nothing(initializer, error, text):
    model = mixed_model()
    before = [as_array(v).copy() for v in model.weights]
    with pytest.raises(error, match=text):
        reinitialize(model, kernel_initializer=initializer, seed=1)
    for one, other in zip(before, model.weights, strict=True):
        assert_same(one, as_array(other))


def test_a_model_of_unknown_layers():
    class Unknown(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(3, 3), name="w")

    layer = Unknown()
    layer.build((None, 3))
    for change in (
        rewire_model,
        functools.partial(reinitialize, kernel_initializer="he_normal"),
    ):
        with pytest.warns(UserWarning, match=r"register_axes.*of Unknown"):
            change(layer, seed=0)
