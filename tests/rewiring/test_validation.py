"""Arguments that are not what the functions of a kernel need."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_parewire import PARewired, rewire, strength_variance, strengths

KERNEL = np.ones((3, 4), "float32")
NO_VALUES = r"must have values.*Received: kernel="


@pytest.mark.parametrize("function", [strengths, strength_variance])
@pytest.mark.parametrize(
    "kernel",
    [
        np.ones((2, 3), complex),
        [[1.0, 2.0], [3.0]],
        np.zeros((2, 3), "datetime64[s]"),
        np.array([["a", "b"]]),
        np.array([[object()]]),
        None,
        keras.layers.Dense(2),
    ],
    ids=["complex", "ragged", "dates", "strings", "objects", "None", "layer"],
)
def test_strengths_are_those_of_real_numbers(function, kernel):
    message = r"must be a tensor or an array of real numbers.*Received: kernel="
    with pytest.raises(TypeError, match=message):
        function(kernel)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bfloat16", "float16"])
def test_strengths_of_any_real_dtype(dtype):
    pair = strengths(ops.cast(KERNEL, dtype))
    np.testing.assert_array_equal(pair.inputs, [4, 4, 4])
    np.testing.assert_array_equal(pair.outputs, [3, 3, 3, 3])


@pytest.mark.backend("jax")
def test_strengths_need_values():
    import jax

    with pytest.raises(
        ValueError, match=r"must have values.*Received: kernel="
    ):
        jax.jit(strength_variance)(KERNEL)


@pytest.mark.backend("torch")
def test_strengths_of_a_placeholder():
    with keras.device("meta"):
        kernel = ops.ones((3, 4))
    with pytest.raises(
        ValueError, match=r"must have values.*Received: kernel="
    ):
        strengths(kernel)


@pytest.mark.backend("torch")
def test_placeholders_stay_placeholders():
    with keras.device("meta"):
        kernel = ops.ones((3, 4))
        variable = keras.Variable(kernel)
    assert rewire(kernel).is_meta
    assert rewire(variable).is_meta


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"exponent": True}, TypeError),
        ({"exponent": 10**400}, ValueError),
        ({"seed": True}, TypeError),
        ({"input_axes": [False], "output_axes": [True]}, TypeError),
    ],
    ids=str,
)
def test_bools_and_overflows_are_not_numbers(arguments, error):
    name, value = next(iter(arguments.items()))
    for function in (
        lambda: rewire(KERNEL, **arguments),
        lambda: PARewired(**arguments),
    ):
        with pytest.raises(error, match=f"Received: {name}=") as caught:
            function()
        assert str(value) in str(caught.value)


@pytest.mark.backend("jax")
def test_values_that_cannot_be_read():
    kernel = ops.ones((3, 4))
    kernel.delete()
    with pytest.raises(ValueError, match=r"must be readable.*Received: .*3, 4"):
        rewire(kernel)
