import json

import keras
import numpy as np
import pytest
from helpers import as_array, assert_same
from keras import layers, ops

from keras_parewire import ChannelAverage, PARewired

SHAPES = {
    (4, 3): (),
    (5, 4, 3): (2,),
    (3, 3, 4, 2): (1, 1),
    (1, 1, 4, 2): (0, 0),
    (4, 2, 4, 2): (2, 1),  # Of an even size, the later of the middle places.
    (3, 3, 5, 2, 2): (1, 1, 2),
}


@pytest.mark.parametrize("shape", list(SHAPES), ids=str)
@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16"])
def test_values(shape, dtype):
    kernel = ChannelAverage()(shape, dtype)
    assert keras.backend.standardize_dtype(kernel.dtype) == (dtype or "float32")
    expected = np.zeros(shape)
    expected[SHAPES[shape]] = 1 / shape[-2]
    assert_same(kernel, ops.convert_to_tensor(expected, dtype or "float32"))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda **how: layers.Conv1D(5, 3, **how), (2, 6, 4)),
        (lambda **how: layers.Conv2D(5, 1, **how), (2, 6, 6, 4)),
        (lambda **how: layers.Conv3D(5, 3, **how), (2, 4, 4, 4, 4)),
        (lambda padding, **how: layers.Dense(5, **how), (2, 4)),
    ],
    ids=["Conv1D", "Conv2D", "Conv3D", "Dense"],
)
def test_layers_average_their_channels(layer, shape):
    init = ChannelAverage()
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    y = layer(padding="same", kernel_initializer=init)(x)
    expected = np.repeat(x.mean(axis=-1, keepdims=True), 5, axis=-1)
    np.testing.assert_allclose(as_array(y), expected, atol=1e-6)


def test_serialization():
    # The name is written into users' files, and so must never change.
    name = "keras_parewire>ChannelAverage"
    assert keras.saving.get_registered_name(ChannelAverage) == name
    config = keras.initializers.serialize(ChannelAverage())
    restored = keras.initializers.get(json.loads(json.dumps(config)))
    assert type(restored) is ChannelAverage
    assert type(ChannelAverage().clone()) is ChannelAverage
    assert restored.get_config() == {}


def test_base_of_a_rewiring_keeps_the_values():
    kernel = PARewired(ChannelAverage(), seed=0)((3, 3, 4, 8))
    values, counts = np.unique(as_array(kernel), return_counts=True)
    np.testing.assert_array_equal(values, [0, 0.25])
    np.testing.assert_array_equal(counts, [8 * 4 * 8, 4 * 8])


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_integers_are_no_weights(dtype):
    with pytest.raises(ValueError, match=f"floating point.*{dtype}"):
        ChannelAverage()((3, 4), dtype)


@pytest.mark.backend("tensorflow", "torch")
def test_double_precision():
    kernel = as_array(ChannelAverage()((3, 4), "float64"))
    assert (kernel == np.float64(1) / 3).all()


@pytest.mark.parametrize("shape", [(), (4,)], ids=str)
def test_vectors_are_no_kernels(shape):
    with pytest.raises(ValueError, match=r"rank 2 or more.*Received"):
        ChannelAverage()(shape)
