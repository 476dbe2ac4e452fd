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
    """

    kernel_shape: tuple[int, ...]
    split_shape: tuple[int, ...]  # The last axis split if it holds groups.
    # The axes of `split_shape`: those of groups, of inputs and of outputs.
    order: tuple[int, ...]
    stack_shape: tuple[int, int, int]  # `(groups, inputs, outputs)`.

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
    shape: Sequence[int],
    input_axes: Axes = None,
    output_axes: Axes = None,
    groups: int | None = None,
) -> MatrixView:
    """Returns the view of a kernel.

    Without axes, the kernel is Keras' own `(..., in, out)`. Without `groups`,
    it is a single matrix: both sides together must name every axis, and a side
    that names none has a single neuron. With them, both must name some, axes on
    neither side number groups, and the last axis holds as many more groups, one
    after the other.
    """
    sizes = _as_integers(shape)
    if sizes is None:
        raise TypeError(
            "The shape of a kernel must be a tuple of integers. "
            f"Received: shape={shape}"
        )
    checked, rank = tuple(sizes), len(sizes)
    if min(checked, default=0) < 0:
        raise ValueError(
            "The sizes of a kernel's axes must be 0 or more. "
            f"Received: shape={checked}"
        )
    if input_axes is None and output_axes is None:
        if rank < 2:
            raise ValueError(
                "The shape of a kernel must be of rank 2 or more, to have "
                "input and output neurons; a bias is not a kernel. "
                f"Received: shape={checked} of rank {rank}"
            )
        input_axes, output_axes = range(rank - 1), [rank - 1]
    inputs, outputs = _sides(input_axes, output_axes, rank)
    received = f"{_received(input_axes, output_axes)}, shape={checked}"
    others = sorted(set(range(rank)) - set(inputs) - set(outputs))
    if groups is None and others:
        raise ValueError(
            "`input_axes` and `output_axes` together must name every axis of "
            f"the kernel. Missing: {others}. {received}"
        )
    if groups is not None and not (inputs and outputs):
        raise ValueError(
            "`input_axes` and `output_axes` must each name at least one axis. "
            f"{received}"
        )
    split_shape, sides = checked, (others, inputs, outputs)
    if groups is not None and groups > 1:
        if checked[-1] % groups:
            raise ValueError(
                "`groups` must divide the kernel's last axis. "
                f"Received: groups={groups}, shape={checked}"
            )
        split_shape = (*checked[:-1], groups, checked[-1] // groups)
        # The groups take the number of the last axis, which moves up by one.
        for side in sides:
            side[:] = [axis + (axis == rank - 1) for axis in side]
        others.append(rank - 1)
    count, rows, columns = (
        math.prod(split_shape[axis] for axis in side) for side in sides
    )
    order = tuple(axis for side in sides for axis in side)
    return MatrixView(checked, split_shape, order, (count, rows, columns))


def check_axes(
    input_axes: Axes, output_axes: Axes
) -> tuple[list[int] | None, list[int] | None]:
    """Checks what can be known about the axes before the shape is known.

    Returns both as lists of Python ints, or `(None, None)`.
    """
    if input_axes is None and output_axes is None:
        return None, None
    return _sides(input_axes, output_axes, None)


def _sides(
    input_axes: Axes, output_axes: Axes, rank: int | None
) -> tuple[list[int], list[int]]:
    """Returns both sides as lists, not negative if the rank is known."""
    received = _received(input_axes, output_axes)
    if input_axes is None or output_axes is None:
        raise ValueError(
            f"`input_axes` and `output_axes` must be given together. {received}"
        )
    inputs, outputs = map(_as_integers, (input_axes, output_axes))
    if inputs is None or outputs is None:
        raise TypeError(
            "`input_axes` and `output_axes` must be lists of integers. "
            f"{received}"
        )
    if rank is not None:
        if not all(-rank <= axis < rank for axis in (*inputs, *outputs)):
            raise ValueError(
                "`input_axes` and `output_axes` must name axes that exist, in "
                f"a kernel of rank {rank}. {received}"
            )
        inputs = [axis % rank for axis in inputs]
        outputs = [axis % rank for axis in outputs]
    if len({*inputs, *outputs}) < len(inputs) + len(outputs):
        raise ValueError(
            "`input_axes` and `output_axes` must name each axis once. "
            f"{received}"
        )
    return inputs, outputs


def _as_integers(values: Any) -> list[int] | None:
    try:
        checked = [as_integer(value) for value in values]
    except TypeError:
        return None
    integers = [value for value in checked if value is not None]
    return integers if len(integers) == len(checked) else None


def _received(input_axes: Axes, output_axes: Axes) -> str:
    return f"Received: input_axes={input_axes}, output_axes={output_axes}"
