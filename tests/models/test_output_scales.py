import math

import keras
import numpy as np
import pytest
from helpers import as_array, assert_same
from keras import layers, ops

from keras_parewire import output_scales, rescale_model, rewire_model

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(4, 9, 9, 4)).astype("float32")
SERIES = IMAGES.reshape(4, 81, 4)[:, :12]
VOLUMES = IMAGES.reshape(4, 9, 3, 3, 4)

LAYERS = {
    "dense": (layers.Dense, (5,), {}, SERIES),
    "einsum": (
        layers.EinsumDense,
        ("abc,cde->adbe", (2, None, 3)),
        {"bias_axes": "de"},
        SERIES,
    ),
    "groups": (
        layers.EinsumDense,
        ("...bc,bcd->...bd", (12, 3)),
        {"bias_axes": "d"},
        SERIES,
    ),
    "elided": (
        layers.EinsumDense,
        ("ab...,bc->ac...", (3, None)),
        {},
        SERIES,
    ),
    "conv1d": (
        layers.Conv1D,
        (6, 3),
        {"padding": "causal", "dilation_rate": 2},
        SERIES,
    ),
    "conv2d": (layers.Conv2D, (6, (3, 2)), {"strides": 2, "groups": 2}, IMAGES),
    "conv3d": (layers.Conv3D, (6, 2), {"padding": "same"}, VOLUMES),
    "transposed1d": (layers.Conv1DTranspose, (6, 3), {"strides": 2}, SERIES),
    "transposed2d": (
        layers.Conv2DTranspose,
        (6, 3),
        {"strides": 2, "padding": "same", "output_padding": 1},
        IMAGES,
    ),
    "depthwise1d": (
        layers.DepthwiseConv1D,
        (3,),
        {"depth_multiplier": 2, "padding": "same"},
        SERIES,
    ),
    "depthwise2d": (layers.DepthwiseConv2D, (3,), {"strides": 2}, IMAGES),
    "separable1d": (
        layers.SeparableConv1D,
        (6, 3),
        {"padding": "same"},
        SERIES,
    ),
    "separable2d": (
        layers.SeparableConv2D,
        (6, 3),
        {"dilation_rate": 2},
        IMAGES,
    ),
}


def scale(outputs, neurons=(-1,)):
    """The root mean square, and the share of it that is constant."""
    outputs = as_array(outputs).astype("float64")
    neurons = {axis % outputs.ndim for axis in neurons}
    others = tuple(set(range(outputs.ndim)) - neurons)
    square = np.mean(outputs**2)
    constant = np.mean(outputs.mean(axis=others) ** 2)
    return math.sqrt(square), constant / square


def assert_row(row, outputs, neurons=(-1,)):
    assert row.skipped is None
    found = row.rms, row.constant_share
    np.testing.assert_allclose(found, scale(outputs, neurons), rtol=1e-4)


def kernels(report):
    return [row for row in report if row.skipped is None]


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_without_bias_and_activation(name):
    kind, arguments, options, inputs = LAYERS[name]
    plain = kind(*arguments, **{**options})
    outputs = plain(inputs)  # Biases start from 0.
    layer = kind(*arguments, activation="relu", **options)
    layer.build(inputs.shape)
    layer.set_weights(plain.get_weights())
    biases = [w for w in layer.weights if "bias" in w.name]
    for bias in biases:
        bias.assign(RNG.normal(size=bias.shape))
    report = output_scales(layer, inputs)
    neurons = {"einsum": (1, 3), "groups": (1, 2), "elided": (1,)}
    assert_row(kernels(report)[-1], outputs, neurons.get(name, (-1,)))
    skipped = [row.skipped for row in report if row.skipped]
    assert skipped == ["bias"] * len(biases)


def test_depthwise_kernel_of_a_separable_convolution():
    layer = layers.SeparableConv2D(6, 3, strides=2, depth_multiplier=2)
    layer.build(IMAGES.shape)
    depthwise = layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2)
    depthwise.build(IMAGES.shape)
    depthwise.kernel.assign(layer.depthwise_kernel)
    assert_row(output_scales(layer, IMAGES)[0], depthwise(IMAGES))
    first, second, _ = rescale_model(layer, IMAGES)
    assert first.factor != second.factor
    first, second, _ = output_scales(layer, IMAGES)
    np.testing.assert_allclose([first.rms, second.rms], 1, rtol=1e-5)


@pytest.mark.backend("jax", "torch")  # TensorFlow has none of it on a CPU.
def test_channels_first():
    layer = layers.Conv2D(6, 3, data_format="channels_first")
    images = np.moveaxis(IMAGES, -1, 1).copy()
    assert_row(output_scales_of(layer, images), layer(images), [1])
    layer = layers.Conv1D(6, 3, padding="causal", data_format="channels_first")
    series = np.moveaxis(SERIES, -1, 1).copy()
    assert_row(output_scales_of(layer, series), layer(series), [1])


def output_scales_of(layer, inputs):
    layer.build(inputs.shape)
    return output_scales(layer, inputs)[0]


class Subclassed(keras.Model):
    """Attention, a nested model, a shared layer and one that is not called.

    It also counts its calls and draws noise.
    """

    def __init__(self):
        super().__init__()
        self.last = layers.Dense(3, name="last")
        self.attention = layers.MultiHeadAttention(2, 4, name="attention")
        self.shared = layers.Dense(4, activation="relu", name="shared")
        self.nested = keras.Sequential([layers.Dense(4, name="inner")])
        self.unused = layers.Dense(2, name="unused")
        self.seeds = keras.random.SeedGenerator(0)
        self.calls = self.add_weight((), "zeros", "int32", trainable=False)

    def build(self, shape):
        self.unused.build(shape["left"])
        super().build(shape)

    def call(self, inputs):
        self.calls.assign_add(1)
        left, right = inputs["left"], inputs["right"]
        x = self.attention(left, right) + self.noise(left)
        x = self.shared(inputs=self.shared(x))
        return self.last(self.nested(x))

    def noise(self, left):
        return keras.random.normal(ops.shape(left), seed=self.seeds)


@pytest.fixture
def subclassed():
    model = Subclassed()
    batch = {"left": SERIES, "right": SERIES[::-1]}
    model(batch)
    return model, batch


def state(model):
    return [as_array(variable).copy() for variable in model.variables]


def assert_as_before(model, before):
    for variable, values in zip(model.variables, before, strict=True):
        assert_same(variable, values)
    inner = [getattr(layer, "query_dense", layer) for layer in model.layers]
    assert all("call" not in vars(layer) for layer in (*model.layers, *inner))


def names(report):
    return ["/".join(row.path.split("/")[-2:-1]) for row in kernels(report)]


def test_any_model_in_the_order_of_calls(subclassed):
    model, batch = subclassed
    before = state(model)
    report = output_scales(model, batch)
    order = ["query", "key", "value", "attention_output"]
    assert names(report) == [*order, "shared", "inner", "last"]
    assert_as_before(model, before)
    skipped = {row.path: row.skipped for row in report if row.skipped}
    assert skipped[model.unused.kernel.path].startswith("not called")
    assert skipped[model.last.bias.path] == "bias"
    assert len(report) == len(model.weights)
    query = model.attention.query_dense
    assert_row(report[0], query(batch["left"]), (2, 3))


def test_shared_layers():
    shared = layers.Dense(4, use_bias=False)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, shared(layers.ReLU()(shared(inputs))))
    first = shared(SERIES[0])
    second = shared(ops.relu(first))
    (row,) = output_scales(model, SERIES[0])
    assert_row(row, np.concatenate([as_array(first), as_array(second)]))
    (row,) = rescale_model(model, SERIES[0])
    np.testing.assert_allclose(scale(shared(SERIES[0]))[0], 1, rtol=1e-5)
    np.testing.assert_allclose(row.factor, 1 / scale(first)[0], rtol=1e-5)
    assert output_scales(model, SERIES[0])[0].rms == pytest.approx(row.rms)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(dtype):
    layer = layers.Dense(8, use_bias=False, dtype=dtype)
    layer.build((None, 4))
    # Squares overflow in float16.
    layer.kernel.assign(layer.kernel * 1000.0)
    inputs = SERIES[0]
    product = inputs @ as_array(layer.kernel)
    row = output_scales(layer, inputs)[0]
    np.testing.assert_allclose(row.rms, scale(product)[0], rtol=1e-2)
    rescale_model(layer, inputs)
    product = inputs @ as_array(layer.kernel)
    np.testing.assert_allclose(scale(product)[0], 1, rtol=1e-2)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_dtypes_of_kernels(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 by default")
    layer = layers.Dense(8, dtype=dtype)
    layer.build((None, 4))
    rescale_model(layer, SERIES[0])
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == dtype
    row = output_scales(layer, SERIES[0])[0]
    assert row.rms == pytest.approx(1, rel=1e-3)


class Own(keras.layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight((shape[-1], 2))

    def call(self, inputs):
        return inputs @ self.kernel


def test_reasons():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Embedding(9, 4),
            layers.LSTM(4, return_sequences=True),
            layers.TimeDistributed(layers.Dense(4, name="steps")),
            layers.BatchNormalization(),
            Own(),
            layers.Dense(3),
        ]
    )
    model.layers[-1].quantize("int8")
    report = output_scales(model, np.ones((2, 5), "int32"))
    assert names(report) == ["steps"]
    reasons = {row.skipped for row in report} - {None}
    assert reasons == {
        "embedding",
        "outputs of LSTMCell are unknown",
        "bias",
        "vector",
        "normalization",
        "unknown layer Own, see `register_axes`",
        "quantized to int8",
    }


@pytest.mark.backend("tensorflow", "jax")
def test_layers_in_compiled_functions():
    inner = layers.Dense(4, use_bias=False, name="inner")
    inner.build((None, 4))
    if keras.backend.backend() == "jax":
        import jax as compiler

        compiled = compiler.jit(lambda x: inner(x))
    else:
        import tensorflow as compiler

        compiled = compiler.function(lambda x: inner(x))

    class Compiled(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = inner
            self.last = layers.Dense(2, use_bias=False, name="last")

        def call(self, inputs):
            return self.last(compiled(inputs))

    model = Compiled()
    model(SERIES[0])
    before = as_array(inner.kernel)
    report = rescale_model(model, SERIES[0])
    assert names(report) == ["last"]
    assert report[1].skipped.startswith("not called")
    assert_same(inner.kernel, before)


def cnn():
    x = inputs = keras.Input((9, 9, 4))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    x = layers.Dropout(0.5)(layers.BatchNormalization()(x))
    x = layers.Dense(5, activation="tanh", name="hidden")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(3, name="head")(x))
    model.compile("adam", "mse")
    return model


def test_rescale_to_one():
    model = cnn()
    assert model.predict(IMAGES, verbose=0).std() > 0  # Compiles.
    before = {weight.path: as_array(weight) for weight in model.weights}
    report = rescale_model(model, IMAGES)
    after = output_scales(model, IMAGES)
    np.testing.assert_allclose([r.rms for r in kernels(after)], 1, rtol=1e-5)
    assert [row.path for row in report] == [row.path for row in after]
    factors = {row.path: row.factor for row in kernels(report)}
    for weight in model.weights:
        expected = before[weight.path] * np.float32(
            factors.get(weight.path, 1.0)
        )
        np.testing.assert_allclose(as_array(weight), expected, rtol=1e-6)
    # Functions that are compiled already see the new weights.
    predicted = model.predict(IMAGES, verbose=0)
    assert scale(predicted)[0] == pytest.approx(1, rel=1e-4)


def test_rescale_to_another_start():
    model = cnn()
    plain = model.get_weights()
    rewire_model(model, seed=0)
    rewired = output_scales(model, IMAGES)
    model.set_weights(plain)
    rescale_model(model, IMAGES, rewired)
    for row, target in zip(
        kernels(output_scales(model, IMAGES)), kernels(rewired), strict=True
    ):
        assert row.rms == pytest.approx(target.rms, rel=1e-4)


def test_kernels_of_one_path():
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(16, name="dense")
            self.dense.build((None, 16))
            self.built = True

        def call(self, inputs):
            return 3 * self.dense(inputs)

    model = keras.Sequential([keras.Input((16,)), Block(), Block()])
    assert model.weights[0].path == model.weights[2].path
    x = RNG.normal(size=(8, 16))
    scales = output_scales(model, x)
    report = rescale_model(model, x, scales)
    assert [row.factor for row in report][:2] == pytest.approx([1.0, 1.0])
    rewire_model(model, seed=0)
    report = rescale_model(model, x, scales)
    assert [row.rms for row in report][:2] == pytest.approx(
        [row.rms for row in scales][:2], rel=1e-4
    )


def test_outputs_that_are_zero_in_both_starts():
    zero = layers.Dense(4, kernel_initializer="zeros")
    ones = layers.Dense(3, kernel_initializer="ones", bias_initializer="ones")
    model = keras.Sequential([keras.Input((4,)), ones, zero])
    x = RNG.normal(size=(8, 4))
    scales = output_scales(model, x)
    model.layers[0].kernel.assign(2 * model.layers[0].kernel)
    report = rescale_model(model, x, scales)
    assert report[0].factor == pytest.approx(0.5)
    assert report[1].factor is None
    zero.kernel.assign(ops.ones((3, 4)))
    with pytest.raises(ValueError, match=r"^The outputs .* to become 0\.0$"):
        rescale_model(model, x, scales)


def test_rescale_some():
    model = cnn()
    hidden = model.get_layer("hidden").kernel.path
    report = rescale_model(model, IMAGES, {hidden: np.float32(3)})
    rows = {row.path: row for row in kernels(report)}
    assert rows[hidden].rms == pytest.approx(3)
    assert [row.path for row in report if row.factor is not None] == [hidden]


@pytest.mark.parametrize(
    ("to", "error", "text"),
    [
        (0, ValueError, "positive"),
        (-1.0, ValueError, "positive"),
        (math.nan, ValueError, "positive"),
        (math.inf, ValueError, "positive"),
        (True, TypeError, "must be a number"),
        ("1", TypeError, "must be a number"),
        ({"head/kernel": 0}, ValueError, "head/kernel"),
        ({"conv/kernel": 2, "nowhere": 1}, ValueError, "nowhere"),
        ({"conv/kernel": 2, "conv/bias": 1}, ValueError, "conv/bias"),
        ({"nowhere": 1, 3: 1}, ValueError, "nowhere"),
    ],
)
def test_bad_targets(to, error, text):
    model = cnn()
    before = state(model)
    with pytest.raises(error, match=text):
        rescale_model(model, IMAGES, to)
    assert_as_before(model, before)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_outputs_that_cannot_be_rescaled(value):
    model = cnn()
    head = model.get_layer("head").kernel
    head.assign(ops.full(head.shape, value))
    before = state(model)
    with pytest.raises(ValueError, match=r"root mean square.*head/kernel"):
        rescale_model(model, IMAGES)
    assert_as_before(model, before)


@pytest.mark.parametrize("function", [output_scales, rescale_model])
def test_errors_of_the_model_leave_it_as_it_was(function, subclassed):
    model = cnn()
    before = state(model)
    with pytest.raises(ValueError, match="shape"):
        function(model, SERIES)
    assert_as_before(model, before)
    model, batch = subclassed
    before = state(model)
    with pytest.raises(KeyError, match="right"):
        function(model, {"left": batch["left"]})
    assert_as_before(model, before)


def test_trained_or_unbuilt_models():
    model = cnn()
    model.fit(IMAGES, np.zeros((4, 3)), verbose=0)
    assert kernels(output_scales(model, IMAGES))
    with pytest.raises(ValueError, match="must not have been trained"):
        rescale_model(model, IMAGES)
    with pytest.raises(ValueError, match="must be built"):
        output_scales(keras.Sequential([layers.Dense(2)]), IMAGES)
    with pytest.raises(TypeError, match="Keras model"):
        output_scales("model", IMAGES)


def test_optimizers_start_from_the_rescaled_weights():
    model = cnn()
    # It keeps copies of the weights, to which its first step returns.
    model.compile(keras.optimizers.ScheduleFreeAdamW(1e-6), "mse")
    model.optimizer.build(model.trainable_variables)
    rescale_model(model, IMAGES, 3.0)
    before = as_array(model.get_layer("head").kernel).copy()
    model.fit(IMAGES, np.zeros((4, 3)), verbose=0)
    after = as_array(model.get_layer("head").kernel)
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_outputs_of_zeros_have_no_constant_share():
    layer = layers.Dense(3)
    layer.build((None, 4))
    row = output_scales(layer, np.zeros((2, 4)))[0]
    assert row.rms == 0
    assert math.isnan(row.constant_share)


def test_a_batch_without_samples():
    with pytest.raises(ValueError, match=r"at least one sample.* shape \(0, "):
        output_scales(cnn(), IMAGES[:0])


def test_table():
    model = cnn()
    text = str(output_scales(model, IMAGES))
    assert text.splitlines()[2].startswith("| conv/kernel ")
    assert "factor" not in text
    assert "skipped: 3 bias, 4 normalization" in text
    report = rescale_model(model, IMAGES)
    assert "factor" in report._repr_markdown_()
    assert "3 kernels, 7 skipped" in repr(report)
    assert report.to_dict()["rows"][0]["rms"] == pytest.approx(1)


@pytest.mark.backend("jax")
def test_keeps_layouts(model_parallel):
    layer = layers.Dense(16)
    layer.build((None, 4))
    sharding = layer.kernel.value.sharding
    assert not sharding.is_fully_replicated
    rescale_model(layer, SERIES[0])
    assert layer.kernel.value.sharding == sharding
    assert scale(layer(SERIES[0]))[0] == pytest.approx(1, rel=1e-5)
