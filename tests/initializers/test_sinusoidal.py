import json
import math
import random

import keras
import numpy as np
import pytest
from helpers import as_array, assert_permutation, assert_same, bits
from keras import layers, ops

from keras_parewire import (
    PARewired,
    Sinusoidal,
    StrengthStabilized,
    reinitialize,
    strength_variance,
    strengths,
)
from keras_parewire.initializers.sinusoidal import _sine_waves

NAME = "keras_parewire>Sinusoidal"
CONFIG = {"class_name": NAME, "config": {}}


def sine(position, inputs, channel, outputs):
    """An entry before it is scaled, by the published formula."""
    frequency, phase = 2 * math.pi / inputs, 2 * math.pi / outputs
    return math.sin((position * frequency + phase) * (channel + 1))


def scaled(weights):
    """The amplitude for weights of shape `(outputs, *inputs)`."""
    outputs, inputs = len(weights), weights[0].size
    variance = 2 / (inputs + outputs)
    return weights * math.sqrt(variance / weights.var(ddof=1))


@pytest.mark.parametrize("inputs, outputs", [(5, 3), (3, 5), (1, 3), (4, 1)])
def test_formula(inputs, outputs):
    weights = np.empty((outputs, inputs))
    for i, j in np.ndindex(outputs, inputs):
        weights[i, j] = sine(j, inputs, i, outputs)
    kernel = as_array(Sinusoidal()((inputs, outputs)))
    np.testing.assert_allclose(kernel, scaled(weights).T, atol=1e-6)


def test_inputs_of_a_convolution_are_numbered_channel_by_channel():
    # As where the method was published: (out, in, height, width), flattened.
    weights = np.empty((5, 4, 2, 3))
    for out, channel, row, column in np.ndindex(weights.shape):
        position = (channel * 2 + row) * 3 + column
        weights[out, channel, row, column] = sine(position, 24, out, 5)
    kernel = as_array(Sinusoidal()((2, 3, 4, 5)))
    expected = scaled(weights).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(kernel, expected, atol=1e-6)


def test_axes_are_numbered_in_their_order():
    matrix = as_array(Sinusoidal()((12, 10)))
    kernel = Sinusoidal(input_axes=[3, 0], output_axes=[2, 1])((4, 5, 2, 3))
    expected = matrix.reshape(3, 4, 2, 5).transpose(1, 3, 2, 0)
    assert_same(kernel, ops.convert_to_tensor(expected))


@pytest.mark.parametrize("shape", [(7, 9), (3, 3, 4, 6)], ids=str)
def test_variance(shape):
    kernel = as_array(Sinusoidal()(shape))
    neurons = kernel.size / shape[-1] + shape[-1]
    np.testing.assert_allclose(kernel.var(ddof=1), 2 / neurons, rtol=1e-5)


def rounded(values, dtype):
    """Float32 values rounded once, to nearest and ties to even, by NumPy."""
    if dtype == "bfloat16":  # The upper half of a float32.
        whole = values.view("uint32")
        whole = whole + 0x7FFF + (whole >> 16 & 1)
        return (whole & 0xFFFF0000).astype("uint32").view("float32")
    return values.astype(dtype).astype("float32")


@pytest.mark.parametrize("dtype", [None, "float32", "float16", "bfloat16"])
def test_all_backends_give_the_same_bits(dtype):
    kernel = Sinusoidal()((64, 48), dtype)
    dtype = dtype or "float32"
    assert keras.backend.standardize_dtype(kernel.dtype) == dtype
    expected = rounded(_sine_waves(64, 48).astype("float32"), dtype)
    np.testing.assert_array_equal(
        bits(ops.cast(kernel, "float32")), bits(expected)
    )


@pytest.mark.backend("tensorflow", "torch")
def test_double_precision():
    kernel = as_array(Sinusoidal()((6, 4), "float64"))
    assert kernel.dtype == "float64"
    np.testing.assert_allclose(kernel.sum(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(kernel.var(ddof=1), 0.2, rtol=1e-14)


# What is to be known before using it.


def test_same_for_every_seed():
    keras.utils.set_random_seed(1)
    one = Sinusoidal()((8, 4))
    keras.utils.set_random_seed(2)
    state = random.getstate()
    assert_same(one, Sinusoidal()((8, 4)))
    # Other initializers draw what they would draw without it.
    assert random.getstate() == state


@pytest.mark.parametrize(
    ("shape", "rank"),
    [((256, 512), 128), ((256, 256), 127), ((512, 256), 255), ((64, 10), 10)],
    ids=str,
)
def test_rank(shape, rank):
    singular = np.linalg.svd(as_array(Sinusoidal()(shape)), compute_uv=False)
    assert np.sum(singular > 1e-4 * singular[0]) == rank


def test_strengths():
    tall = as_array(Sinusoidal()((512, 256)))
    inputs, outputs = strengths(tall)
    np.testing.assert_allclose(outputs, 0, atol=1e-5)
    # As expected of independent weights of this variance: 256 times theirs.
    np.testing.assert_allclose(inputs.var(), 256 * 2 / 768, rtol=0.01)
    # Every 192nd wave is constant.
    inputs, outputs = strengths(as_array(Sinusoidal()((192, 576))))
    np.testing.assert_allclose(inputs, 0, atol=1e-5)
    assert np.flatnonzero(abs(outputs) > 1e-3).tolist() == [191, 383]


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (2, 2)], ids=str)
def test_kernels_without_waves(shape):
    message = f"more than two.*inputs={shape[0]}, outputs={shape[1]}"
    with pytest.raises(ValueError, match=message):
        Sinusoidal()(shape)


# With Keras.


def test_serialization():
    # The name is written into users' files, and so must never change.
    assert keras.saving.get_registered_name(Sinusoidal) == NAME
    initializer = Sinusoidal(input_axes=(0,), output_axes=(2, 1))
    config = keras.initializers.serialize(initializer)
    assert config["config"] == {"input_axes": [0], "output_axes": [2, 1]}
    restored = keras.initializers.get(json.loads(json.dumps(config)))
    for copy in (restored, initializer.clone()):
        assert type(copy) is Sinusoidal
        assert_same(copy((6, 2, 3)), initializer((6, 2, 3)))
    assert type(keras.initializers.get(CONFIG)) is Sinusoidal


def test_a_seed_is_not_an_argument():
    with pytest.raises(TypeError, match="seed"):
        Sinusoidal.from_config({"seed": 1})


def test_saved_model(tmp_path):
    layer = layers.Dense(4, kernel_initializer=CONFIG)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0].kernel_initializer) is Sinusoidal
    assert_same(loaded.layers[0].kernel, Sinusoidal()((6, 4)))


def test_convolution():
    layer = layers.Conv2D(5, 3, kernel_initializer=CONFIG)
    layer.build((None, 8, 8, 4))
    assert_same(layer.kernel, Sinusoidal()((3, 3, 4, 5)))


def test_attention():
    layer = layers.MultiHeadAttention(2, 4, kernel_initializer=Sinusoidal())
    layer.build((None, 5, 6), (None, 5, 6))
    query = as_array(layer.query_dense.kernel).reshape(6, 8)
    output = as_array(layer.output_dense.kernel).reshape(8, 6)
    assert_same(query, Sinusoidal()((6, 8)))
    assert_same(output, Sinusoidal()((8, 6)))


def test_base_of_a_rewiring():
    plain = Sinusoidal()((48, 32))
    one, other = (PARewired(Sinusoidal(), seed=n)((48, 32)) for n in (1, 2))
    assert_permutation(plain, one)
    assert strength_variance(one) < strength_variance(plain) / 2
    assert not np.array_equal(as_array(one), as_array(other))
    assert_same(
        PARewired(NAME, seed=3)((48, 32)),
        PARewired(Sinusoidal(), seed=3)((48, 32)),
    )
    with pytest.warns(UserWarning, match="draws differ"):
        assert_same(StrengthStabilized(Sinusoidal())((48, 32)), plain)


def test_kernels_of_a_model():
    attention = layers.MultiHeadAttention(2, 4)
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, attention(inputs, inputs))
    reinitialize(model, kernel_initializer=PARewired(Sinusoidal()), seed=0)
    kernel = as_array(attention.query_dense.kernel).reshape(6, 8)
    assert_permutation(kernel, Sinusoidal()((6, 8)))


# Bad input.


@pytest.mark.parametrize(
    ("axes", "error"),
    [
        ({"input_axes": [0]}, ValueError),
        ({"input_axes": [0], "output_axes": [0]}, ValueError),
        ({"input_axes": ["a"], "output_axes": [1]}, TypeError),
    ],
    ids=str,
)
def test_axes(axes, error):
    with pytest.raises(error, match=r"input_axes.*Received"):
        Sinusoidal(**axes)


@pytest.mark.parametrize("shape", [(), (4,)], ids=str)
def test_vectors(shape):
    with pytest.raises(ValueError, match=r"rank 2 or more.*Received"):
        Sinusoidal()(shape)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_integers(dtype):
    with pytest.raises(ValueError, match=f"floating point.*{dtype}"):
        Sinusoidal()((3, 4), dtype)
