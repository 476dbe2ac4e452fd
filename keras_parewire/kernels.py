"""Kernel layouts: how a Keras kernel is read as a matrix.

Everything else in the package sees matrices of shape `(inputs, outputs)`.
This is the only module that knows about axes. A `Layout` is a plan that holds
no values, so the same plan serves NumPy arrays and backend tensors.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

# A tensor of whichever backend runs: the three share no public type.
Tensor = Any


class Layout(NamedTuple):
    """The way from a kernel to its matrix and back.

    Attributes:
        order: The kernel's axes, those of the inputs first.
        shape: The kernel's shape with its axes in that order.
        matrix_shape: `(inputs, outputs)`.
    """

    order: tuple[int, ...]
    shape: tuple[int, ...]
    matrix_shape: tuple[int, int]

    def to_matrix(self, kernel: Tensor, xp: Any) -> Tensor:
        """Reads `kernel` as a matrix; `xp` is `numpy` or `keras.ops`."""
        return xp.reshape(xp.transpose(kernel, self.order), self.matrix_shape)

    def to_kernel(self, matrix: Tensor, xp: Any) -> Tensor:
        """Undoes `to_matrix`."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return xp.transpose(xp.reshape(matrix, self.shape), tuple(inverse))


def check_axes(
    input_axes: Sequence[int] | None, output_axes: Sequence[int] | None
) -> tuple[list[int] | None, list[int] | None]:
    """Checks what can be known of the axes before a shape is.

    Returns:
        The two arguments as lists of Python ints, or `(None, None)`.
    """
    if input_axes is None and output_axes is None:
        return None, None
    if input_axes is None or output_axes is None:
        raise ValueError(
            "`input_axes` and `output_axes` must be given together. "
            f"Received: input_axes={input_axes}, output_axes={output_axes}"
        )
    pair = (
        _as_list(input_axes, "input_axes"),
        _as_list(output_axes, "output_axes"),
    )
    _check_distinct(*pair, given=pair)
    return pair


def kernel_layout(
    shape: Sequence[int],
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
) -> Layout:
    """Plans how a kernel of `shape` is read as `(inputs, outputs)`.

    Args:
        shape: The kernel's shape, of rank 2 or more.
        input_axes: Axes that number the input neurons.
        output_axes: Axes that number the output neurons. Without both, the
            layout is Keras' own, `(..., in, out)`: the last axis is the
            outputs', all others are the inputs'.
    """
    try:
        shape = tuple(operator.index(size) for size in shape)
    except TypeError as error:
        raise TypeError(
            "The shape of a kernel must be a tuple of integers. "
            f"Received: shape={shape}"
        ) from error
    rank = len(shape)
    if rank < 2:
        raise ValueError(
            "A kernel must be of rank 2 or more to have input and output "
            "neurons; a bias is no kernel. "
            f"Received: shape={shape} of rank {rank}"
        )
    if 0 in shape:
        raise ValueError(
            f"A kernel must have at least one weight. Received: shape={shape}"
        )
    given = check_axes(input_axes, output_axes)
    inputs, outputs = given
    if inputs is None or outputs is None:
        inputs, outputs = list(range(rank - 1)), [rank - 1]
    else:
        inputs = _normalize(inputs, shape, given)
        outputs = _normalize(outputs, shape, given)
        _check_distinct(inputs, outputs, given=given)
    missing = sorted(set(range(rank)) - set(inputs) - set(outputs))
    if missing:
        raise ValueError(
            "`input_axes` and `output_axes` together must name every axis of "
            f"the kernel. Missing: {missing}. {_received(given)}, "
            f"shape={shape}"
        )
    order = tuple(inputs + outputs)
    return Layout(
        order,
        tuple(shape[axis] for axis in order),
        (
            math.prod(shape[axis] for axis in inputs),
            math.prod(shape[axis] for axis in outputs),
        ),
    )


def _as_list(axes: Sequence[int], name: str) -> list[int]:
    try:
        return [operator.index(axis) for axis in axes]
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be a list of integers. Received: {name}={axes!r}"
        ) from error


def _received(given: tuple[Any, Any]) -> str:
    return f"Received: input_axes={given[0]}, output_axes={given[1]}"


def _normalize(
    axes: list[int], shape: tuple[int, ...], given: tuple[Any, Any]
) -> list[int]:
    rank = len(shape)
    for axis in axes:
        if not -rank <= axis < rank:
            raise ValueError(
                f"Axis {axis} is out of range for a kernel of rank {rank}. "
                f"{_received(given)}, shape={shape}"
            )
    return [axis % rank for axis in axes]


def _check_distinct(
    inputs: list[int], outputs: list[int], given: tuple[Any, Any]
) -> None:
    if len(set(inputs)) < len(inputs) or len(set(outputs)) < len(outputs):
        raise ValueError(
            "`input_axes` and `output_axes` must not name an axis twice. "
            f"{_received(given)}"
        )
    if set(inputs) & set(outputs):
        raise ValueError(
            "`input_axes` and `output_axes` must not overlap. "
            f"{_received(given)}"
        )
