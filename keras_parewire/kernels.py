"""Kernel layouts: how a Keras kernel is read as a matrix.

Everything else in the package sees matrices of shape `(inputs, outputs)`.
This is the only module that knows about axes. A `Layout` is a plan that holds
no values, so the same plan serves NumPy arrays and backend tensors.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

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
        return xp.transpose(
            xp.reshape(matrix, self.shape), _inverse(self.order)
        )


class GroupedLayout(NamedTuple):
    """The way from a kernel of several independent matrices and back.

    A grouped convolution has such a kernel, and an `EinsumDense` with a batch
    letter in it: no weight of one group meets a neuron of another.

    Attributes:
        kernel_shape: The kernel's shape.
        split: The same, with the last axis parted into blocks if there are any.
        order: The axes of `split`, those of the groups first, then those of the
            inputs.
        stack_shape: `(groups, inputs, outputs)`.
    """

    kernel_shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    stack_shape: tuple[int, int, int]

    def to_stack(self, kernel: np.ndarray) -> np.ndarray:
        """Reads `kernel` as a stack of matrices."""
        ordered = kernel.reshape(self.split).transpose(self.order)
        return ordered.reshape(self.stack_shape)

    def to_kernel(self, stack: np.ndarray) -> np.ndarray:
        """Undoes `to_stack`."""
        ordered = stack.reshape([self.split[axis] for axis in self.order])
        return ordered.transpose(_inverse(self.order)).reshape(
            self.kernel_shape
        )


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


def grouped_layout(
    shape: Sequence[int],
    input_axes: Sequence[int],
    output_axes: Sequence[int],
    blocks: int = 1,
) -> GroupedLayout:
    """Plans how a kernel of `shape` is read as a stack of matrices.

    Args:
        shape: The kernel's shape, of rank 2 or more.
        input_axes: Axes that number the input neurons of a group.
        output_axes: Axes that number the output neurons of a group. Axes in
            neither number the groups.
        blocks: Into how many groups, one after the other, the last axis is
            parted besides.
    """
    split = shape = tuple(shape)
    rank = len(shape)
    given = (input_axes, output_axes)
    inputs, outputs = (
        _normalize(_as_list(axes, name), shape, given)
        for axes, name in zip(given, ("input_axes", "output_axes"), strict=True)
    )
    _check_distinct(inputs, outputs, given)
    if not inputs or not outputs:
        raise ValueError(
            "A kernel must have axes of both sides. "
            f"{_received(given)}, shape={shape}"
        )
    groups = sorted(set(range(rank)) - set(inputs) - set(outputs))
    if blocks > 1:
        if shape[-1] % blocks:
            raise ValueError(
                "`blocks` must divide the kernel's last axis. "
                f"Received: blocks={blocks}, shape={shape}"
            )
        split = (*shape[:-1], blocks, shape[-1] // blocks)
        # The blocks take the last axis' number, and push it on.
        groups, inputs, outputs = (
            [axis + (axis == rank - 1) for axis in axes]
            for axes in (groups, inputs, outputs)
        )
        groups.append(rank - 1)
    sides = groups, inputs, outputs
    sizes = [math.prod(split[axis] for axis in side) for side in sides]
    return GroupedLayout(
        shape,
        split,
        (*groups, *inputs, *outputs),
        (sizes[0], sizes[1], sizes[2]),
    )


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


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
