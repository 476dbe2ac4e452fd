"""Views of a Keras kernel as matrices.

The engines only see matrices of shape `(inputs, outputs)`. A `MatrixView` turns
a kernel into a stack of them and back. It holds no values, so the same view
serves NumPy arrays and backend tensors.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from keras_parewire.rewiring.validation import as_integer
from keras_parewire.rewiring.values import Tensor

Axes: TypeAlias = Sequence[int] | None


class MatrixView(NamedTuple):
    """How a kernel is read as a stack of independent matrices.

    Most kernels are a single matrix, a stack of one group. A grouped
    convolution has several groups, and so does an `EinsumDense` layer with a
    batch letter in its kernel: weights of one group never connect neurons of
    another.

    Attributes:
        kernel_shape: The kernel's shape.
        split_shape: The same, with the last axis split if it holds groups.
        order: The axes of `split_shape`: those of the groups first, then those
            of the inputs, then those of the outputs.
        stack_shape: `(groups, inputs, outputs)`.
    """

    kernel_shape: tuple[int, ...]
    split_shape: tuple[int, ...]
    order: tuple[int, ...]
    stack_shape: tuple[int, int, int]

    def to_stack(self, kernel: Tensor, xp: Any) -> Tensor:
        """Reads a kernel as a stack; `xp` is `numpy` or `keras.ops`."""
        split = xp.reshape(kernel, self.split_shape)
        return xp.reshape(xp.transpose(split, self.order), self.stack_shape)

    def to_kernel(self, stack: Tensor, xp: Any) -> Tensor:
        """Undoes `to_stack`."""
        ordered = [self.split_shape[axis] for axis in self.order]
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        split = xp.transpose(xp.reshape(stack, ordered), inverse)
        return xp.reshape(split, self.kernel_shape)


def matrix_view(
    shape: Sequence[int], input_axes: Axes = None, output_axes: Axes = None
) -> MatrixView:
    """Returns the view of a kernel as a single matrix.

    Args:
        shape: The kernel's shape, of rank 2 or more unless axes are given.
        input_axes: Axes that number the input neurons.
        output_axes: Axes that number the output neurons. Both sides together
            must name every axis; a side that names none has a single neuron.
            Without them the kernel is Keras' own `(..., in, out)`: the outputs
            are on the last axis.
    """
    sizes = _as_integers(shape)
    if sizes is None:
        raise TypeError(
            "The shape of a kernel must be a tuple of integers. "
            f"Received: shape={shape}"
        )
    checked, rank = tuple(sizes), len(sizes)
    if rank < 2 and input_axes is None and output_axes is None:
        raise ValueError(
            "The shape of a kernel must be of rank 2 or more, to have input "
            "and output neurons; a bias is not a kernel. "
            f"Received: shape={checked} of rank {rank}"
        )
    if min(checked, default=0) < 0:
        raise ValueError(
            "The sizes of a kernel's axes must be 0 or more. "
            f"Received: shape={checked}"
        )
    if input_axes is None and output_axes is None:
        input_axes, output_axes = range(rank - 1), [rank - 1]
    sides = _normalized_sides(checked, input_axes, output_axes)
    missing = sorted(set(range(rank)) - set(sides[0]) - set(sides[1]))
    if missing:
        raise ValueError(
            "`input_axes` and `output_axes` together must name every axis of "
            f"the kernel. Missing: {missing}. "
            f"{_received(input_axes, output_axes)}, shape={checked}"
        )
    return _view(checked, checked, [], *sides)


def grouped_view(
    shape: Sequence[int],
    input_axes: Sequence[int],
    output_axes: Sequence[int],
    groups: int = 1,
) -> MatrixView:
    """Returns the view of a kernel as a stack of matrices.

    Args:
        shape: The kernel's shape, of rank 2 or more.
        input_axes: Axes that number the input neurons of a group.
        output_axes: Axes that number the output neurons of a group. Axes on
            neither side number groups.
        groups: How many groups lie one after the other on the last axis.
    """
    split_shape = shape = tuple(shape)
    rank = len(shape)
    inputs, outputs = _normalized_sides(shape, input_axes, output_axes)
    if not inputs or not outputs:
        raise ValueError(
            "`input_axes` and `output_axes` must each name at least one axis. "
            f"{_received(inputs, outputs)}"
        )
    group_axes = sorted(set(range(rank)) - set(inputs) - set(outputs))
    if groups > 1:
        if shape[-1] % groups:
            raise ValueError(
                "`groups` must divide the kernel's last axis. "
                f"Received: groups={groups}, shape={shape}"
            )
        split_shape = (*shape[:-1], groups, shape[-1] // groups)
        # The groups take the number of the last axis, which moves up by one.
        group_axes, inputs, outputs = (
            [axis + (axis == rank - 1) for axis in axes]
            for axes in (group_axes, inputs, outputs)
        )
        group_axes.append(rank - 1)
    return _view(shape, split_shape, group_axes, inputs, outputs)


def check_axes(
    input_axes: Axes, output_axes: Axes
) -> tuple[list[int] | None, list[int] | None]:
    """Checks what can be known about the axes before the shape is known.

    Returns:
        The two arguments as lists of Python ints, or `(None, None)`.
    """
    if input_axes is None and output_axes is None:
        return None, None
    if input_axes is None or output_axes is None:
        raise ValueError(
            "`input_axes` and `output_axes` must be given together. "
            f"{_received(input_axes, output_axes)}"
        )
    inputs = _check_integers(input_axes, "input_axes")
    outputs = _check_integers(output_axes, "output_axes")
    _check_distinct(inputs, outputs)
    return inputs, outputs


def _view(
    shape: tuple[int, ...],
    split_shape: tuple[int, ...],
    *sides: list[int],
) -> MatrixView:
    groups, inputs, outputs = (
        math.prod(split_shape[axis] for axis in side) for side in sides
    )
    order = tuple(axis for side in sides for axis in side)
    return MatrixView(shape, split_shape, order, (groups, inputs, outputs))


def _normalized_sides(
    shape: tuple[int, ...], input_axes: Axes, output_axes: Axes
) -> tuple[list[int], list[int]]:
    inputs, outputs = (
        [_normalized(axis, shape, input_axes, output_axes) for axis in side]
        for side in check_axes(input_axes, output_axes)
        if side is not None
    )
    _check_distinct(inputs, outputs)
    return inputs, outputs


def _normalized(
    axis: int, shape: tuple[int, ...], input_axes: Axes, output_axes: Axes
) -> int:
    rank = len(shape)
    if not -rank <= axis < rank:
        raise ValueError(
            f"Every axis must exist. Axis {axis} is out of range for a kernel "
            f"of rank {rank}. {_received(input_axes, output_axes)}, "
            f"shape={shape}"
        )
    return axis % rank


def _as_integers(values: Any) -> list[int] | None:
    try:
        checked = [as_integer(value) for value in values]
    except TypeError:
        return None
    integers = [value for value in checked if value is not None]
    return integers if len(integers) == len(checked) else None


def _check_integers(axes: Any, name: str) -> list[int]:
    integers = _as_integers(axes)
    if integers is None:
        raise TypeError(
            f"`{name}` must be a list of integers. Received: {name}={axes!r}"
        )
    return integers


def _check_distinct(inputs: list[int], outputs: list[int]) -> None:
    if len(set(inputs)) < len(inputs) or len(set(outputs)) < len(outputs):
        raise ValueError(
            "`input_axes` and `output_axes` must not name an axis twice. "
            f"{_received(inputs, outputs)}"
        )
    if set(inputs) & set(outputs):
        raise ValueError(
            "`input_axes` and `output_axes` must not overlap. "
            f"{_received(inputs, outputs)}"
        )


def _received(input_axes: Axes, output_axes: Axes) -> str:
    return f"Received: input_axes={input_axes}, output_axes={output_axes}"
