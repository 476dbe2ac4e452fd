"""What the weights' places do to a kernel: the strengths of its neurons."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_parewire.kernels import Tensor, kernel_layout


class Strengths(NamedTuple):
    """The strengths of a kernel's neurons, see `strengths`."""

    inputs: np.ndarray
    outputs: np.ndarray


def strengths(
    kernel: Tensor,
    *,
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
) -> Strengths:
    """Sums each neuron's weights.

    With the kernel as a matrix `M` of shape `(inputs, outputs)`, the strength
    of input neuron `i` is `sum_j M[i, j]`, that of output neuron `j` is
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
        A named pair `(inputs, outputs)` of float64 NumPy vectors, one strength
        a neuron. They are computed at once, never traced.

    Raises:
        ValueError: If the kernel's rank is below 2, or the axes are not a
            partition of its axes.
        TypeError: If the kernel is no tensor or array, or the axes are no lists
            of integers.

    Reference:

    - [Scabini et al., 2022](https://arxiv.org/abs/2207.08148)
    """
    values = ops.convert_to_numpy(kernel)
    if values.dtype.kind in "OSU":
        raise TypeError(
            "`kernel` must be a tensor or an array of numbers. "
            f"Received: kernel={kernel!r}"
        )
    layout = kernel_layout(values.shape, input_axes, output_axes)
    return matrix_strengths(layout.to_matrix(values, np))


def strength_variance(
    kernel: Tensor,
    *,
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
) -> float:
    """Measures how far a kernel's neurons differ in strength.

    It is the mean of two unbiased variances (`ddof=1`): of the input neurons'
    strengths and of the output neurons'. A side with one neuron counts as 0.

    Example:

    >>> strength_variance([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    22.25

    Args:
        kernel: Tensor or array of rank 2 or more, `(..., in, out)` unless axes
            are given.
        input_axes: List of integers, the axes that number the input neurons.
        output_axes: List of integers, the axes that number the output neurons.

    Returns:
        A Python float, computed at once, not traced.

    Raises:
        ValueError: If the kernel's rank is below 2, or the axes are not a
            partition of its axes.
        TypeError: If the kernel is no tensor or array, or the axes are no lists
            of integers.

    Reference:

    - [Scabini et al., 2022](https://arxiv.org/abs/2207.08148)
    """
    pair = strengths(kernel, input_axes=input_axes, output_axes=output_axes)
    return float(mean_variance(pair, np))


def matrix_strengths(matrix: np.ndarray) -> Strengths:
    """The strengths of a matrix `(..., inputs, outputs)`, or of a stack."""
    return Strengths(
        matrix.sum(axis=-1, dtype=np.float64),
        matrix.sum(axis=-2, dtype=np.float64),
    )


def mean_variance(pair: tuple[Tensor, Tensor], xp: Any) -> Tensor:
    """The mean of two vectors' variances; `xp` is `numpy` or `keras.ops`.

    Of stacks of vectors `(..., neurons)`, one mean for each pair.
    """
    inputs, outputs = (
        xp.sum((side - xp.mean(side, axis=-1, keepdims=True)) ** 2, axis=-1)
        / max(side.shape[-1] - 1, 1)
        for side in pair
    )
    return (inputs + outputs) / 2
