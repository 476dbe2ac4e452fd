import keras
import numpy as np
import pytest
from helpers import assert_same
from keras import ops

from keras_parewire import (
    ChannelAverage,
    PARewired,
    Sinusoidal,
    StrengthStabilized,
    rewire,
    strength_variance,
    strengths,
)
from keras_parewire.rewiring.matrix_view import matrix_view

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("shape", "axes", "matrix_shape"),
    [
        ((5, 7), (None, None), (5, 7)),
        ((3, 3, 5, 7), (None, None), (45, 7)),
        ((3, 3, 5, 7), ([0, 1, 3], [2]), (63, 5)),
        ((3, 3, 5, 7), ([-1, 0, 1], [-2]), (63, 5)),
        ((5, 2, 3), ([0], [1, 2]), (5, 6)),
    ],
)
def test_matrix_view(shape, axes, matrix_shape):
    kernel = np.arange(np.prod(shape)).reshape(shape)
    view = matrix_view(shape, *axes)
    matrix = view.to_stack(kernel, np)[0]
    assert matrix.shape == view.stack_shape[1:] == matrix_shape
    np.testing.assert_array_equal(view.to_kernel(matrix[None], np), kernel)


def test_strengths_are_sums_over_the_other_neurons():
    kernel = np.random.default_rng(0).normal(size=(3, 4, 5, 2))
    inputs, outputs = strengths(kernel)
    np.testing.assert_allclose(inputs, kernel.sum(axis=3).ravel())
    np.testing.assert_allclose(outputs, kernel.sum(axis=(0, 1, 2)))
    pair = strengths(kernel, input_axes=[0, 1, 3], output_axes=[2])
    np.testing.assert_allclose(pair.inputs, kernel.sum(axis=2).ravel())
    np.testing.assert_allclose(pair.outputs, kernel.sum(axis=(0, 1, 3)))
    assert strength_variance(kernel) == pytest.approx(
        (inputs.var(ddof=1) + outputs.var(ddof=1)) / 2
    )


def test_one_neuron_has_no_variance():
    kernel = np.array([[1.0, 2.0, 3.0]])
    assert strength_variance(kernel) == 0.5
    assert strength_variance([[5.0]]) == 0.0


def test_axes_decide_what_is_rewired():
    kernel = np.random.default_rng(0).normal(size=(20, 4, 10)).astype("float32")
    axes = {"input_axes": [0], "output_axes": [1, 2]}
    rewired = rewire(kernel, seed=0, **axes)
    before, after = (
        strength_variance(values, **axes) for values in (kernel, rewired)
    )
    assert after < before / 5
    flat = rewire(kernel.reshape(20, 40), seed=0)
    assert_same(ops.reshape(flat, kernel.shape), rewired)


@pytest.mark.parametrize(
    ("input_axes", "output_axes", "error", "message"),
    [
        ([0], None, ValueError, "must be given together. Received: input_axes"),
        ([0, 0], [1], ValueError, "must name each axis once"),
        ([0, -3], [1], ValueError, "must name each axis once"),
        ([0, 1], [1], ValueError, "must name each axis once"),
        ([0, 1], [-2], ValueError, "must name each axis once"),
        ([0], [1], ValueError, r"must name every axis .* Missing: \[2\]"),
        ([0, 1], [3], ValueError, "axes that exist, in a kernel of rank 3"),
        ([0, 1], [-4], ValueError, "axes that exist, in a kernel of rank 3"),
        ([True], [1, 2], TypeError, "must be lists of integers"),
        (0, [1, 2], TypeError, "must be lists of integers"),
        ([0], [1.0, 2], TypeError, "must be lists of integers"),
    ],
)
def test_wrong_axes(input_axes, output_axes, error, message):
    axes = {"input_axes": input_axes, "output_axes": output_axes}
    for function in (
        lambda: rewire(np.ones((2, 3, 4)), **axes),
        lambda: strengths(np.ones((2, 3, 4)), **axes),
        lambda: strength_variance(np.ones((2, 3, 4)), **axes),
        lambda: PARewired("he_normal", **axes)((2, 3, 4)),
    ):
        with pytest.raises(error, match=message) as caught:
            function()
        assert "Received: input_axes=" in str(caught.value) or (
            "Received: output_axes=" in str(caught.value)
        )


@pytest.mark.parametrize("shape", [(), (5,)])
def test_too_few_axes(shape):
    message = rf"of rank 2 or more.* Received: shape=.* of rank {len(shape)}"
    for function in (rewire, strengths, strength_variance):
        with pytest.raises(ValueError, match=message):
            function(np.ones(shape, "float32"))
    with pytest.raises(ValueError, match=message):
        PARewired("he_normal")(shape)


def test_a_side_without_axes_has_a_single_neuron():
    kernel = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    axes = {"input_axes": [], "output_axes": [0, 1]}
    assert_same(rewire(kernel, seed=0, **axes), kernel)
    pair = strengths(kernel, **axes)
    assert (pair.inputs.shape, pair.outputs.shape) == ((1,), (12,))
    plain = keras.initializers.HeNormal(seed=1, **axes)
    assert_same(PARewired(plain, seed=0, **axes)((3, 4)), plain((3, 4)))
    plain = keras.initializers.HeNormal(seed=1, input_axes=[], output_axes=[0])
    wrapped = PARewired(plain, input_axes=[], output_axes=[0])
    assert_same(wrapped((5,)), plain((5,)))


@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (3, 3, 0, 4), (0, 0)])
def test_empty_kernels(shape):
    for initializer in (
        PARewired("he_normal"),
        StrengthStabilized("he_normal", candidates=2),
        Sinusoidal(),
        ChannelAverage(),
    ):
        assert tuple(initializer(shape).shape) == shape
    empty = np.zeros(shape, "float32")
    assert tuple(rewire(empty).shape) == shape
    assert strength_variance(empty) == 0


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"0 or more. Received: shape=\(-1, 2"):
        PARewired("he_normal")((-1, 2))
    with pytest.raises(TypeError, match=r"integers. Received: shape=\(None, 2"):
        PARewired("he_normal")((None, 2))
