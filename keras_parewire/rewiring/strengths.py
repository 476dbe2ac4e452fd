"""Measures of a kernel: the strengths of its neurons and their variance."""

from typing import Any, NamedTuple

import numpy as np

from keras_parewire.rewiring.matrix_view import Axes, MatrixView, matrix_view
from keras_parewire.rewiring.values import Tensor, check_real, known_values


class Strengths(NamedTuple):
    """The strengths of a kernel's neurons, see `strengths`."""

    inputs: np.ndarray
    outputs: np.ndarray


def strengths(
    kernel: Tensor,
    *,
    input_axes: Axes = None,
    output_axes: Axes = None,
) -> Strengths:
    """Computes the strengths of a kernel's neurons: the sums of their weights.

    For a kernel read as a matrix `M` of shape `(inputs, outputs)`, the strength
    of input neuron `i` is `sum_j M[i, j]`, and that of output neuron `j` is
    `sum_i M[i, j]`.

    Example:

    >>> strengths([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    Strengths(inputs=array([ 6., 15.]), outputs=array([5., 7., 9.]))

    Args:
        kernel: Tensor or array of rank 2 or more, `(..., in, out)` unless axes
            are given.
        input_axes: List of integers, the axes that number the input neurons.
        output_axes: List of integers, the axes that number the output neurons.

    Returns:
        A named pair `(inputs, outputs)` of float64 NumPy vectors, with one
        strength for each neuron.

    Raises:
        ValueError: If the kernel's rank is below 2, the axes are not a
            partition of its axes, or the kernel is being traced.
        TypeError: If the kernel is not a tensor or an array of real numbers, or
            the axes are not lists of integers.

    Reference:

    - [Scabini et al., 2024](https://arxiv.org/abs/2207.08148), Neurocomputing
    """
    check_real(kernel)
    values = known_values(kernel)
    view = matrix_view(values.shape, input_axes, output_axes)
    return matrix_strengths(view.to_stack(values, np)[0])


def strength_variance(
    kernel: Tensor,
    *,
    input_axes: Axes = None,
    output_axes: Axes = None,
) -> float:
    """Computes how much the strengths of a kernel's neurons vary.

    This is the mean of two unbiased variances (`ddof=1`): that of the input
    neurons' strengths and that of the output neurons'. The variance of a side
    with a single neuron counts as 0.

    Example:

    >>> strength_variance([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    22.25

    Args:
        kernel: Tensor or array of rank 2 or more; see `strengths`, also for the
            errors.
        input_axes: List of integers, the axes that number the input neurons.
        output_axes: List of integers, the axes that number the output neurons.

    Returns:
        A Python float.
    """
    check_real(kernel)
    values = known_values(kernel)
    view = matrix_view(values.shape, input_axes, output_axes)
    return view_variance(values, view)


def matrix_strengths(matrix: np.ndarray) -> Strengths:
    """Returns the strengths of a matrix `(inputs, outputs)`, or of a stack."""
    return Strengths(
        matrix.sum(axis=-1, dtype=np.float64),
        matrix.sum(axis=-2, dtype=np.float64),
    )


def mean_variance(pair: tuple[Tensor, Tensor], xp: Any) -> Tensor:
    """Returns the mean variance of two vectors, or of each pair in two stacks.

    `xp` is `numpy` or `keras.ops`; stacks have shape `(..., neurons)`.
    """
    inputs, outputs = (
        xp.sum((side - xp.mean(side, axis=-1, keepdims=True)) ** 2, axis=-1)
        / max(side.shape[-1] - 1, 1)
        for side in pair
    )
    return (inputs + outputs) / 2


def view_variance(values: np.ndarray, view: MatrixView) -> float:
    """Returns a kernel's strength variance, the mean over its groups."""
    if not values.size:
        return 0.0
    pair = matrix_strengths(view.to_stack(values, np))
    return float(np.mean(mean_variance(pair, np)))
