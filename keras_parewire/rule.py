"""The rule of preferential-attachment (PA) rewiring, in `keras.ops`.

A kernel is a matrix of shape `(inputs, outputs)`; a neuron's *strength* is the
sum of its weights. One pass visits the neurons of one side in turn. Each has a
row of weights, one for every neuron of the other side, whose strengths over
the rows visited so far are `s`. The other side's neurons are drawn one after
another without replacement, with probabilities proportional to `P ** exponent`
where

    P = s + |min(s)| + 1,

and are given the row's weights in ascending order: the strongest neuron tends
to be drawn first and gets the smallest weight. The first pass visits the
output neurons, the second the input neurons of what the first has left.

**The draw.** Successive sampling without replacement follows the order of
independent exponential clocks: with `E ~ Exp(1)`, the ascending order of
`E / P ** exponent`. The order stays the same when both sides are raised to a
positive power, so the clock used here is

    E ** (1 / max(exponent, 1)) / P ** min(exponent, 1),

which is exact at 0 (uniform shuffle), at infinity (greedy by strength), and
cannot overflow in between. Its numerator is called `noise` and is drawn ahead
(`seeding.py`). What is left for the loop at exponent 1 and above are sums,
minima, divisions and sorts, which are exact in IEEE arithmetic: that is why
`host.py`, the same rule in NumPy, gives the same kernel bit for bit.

Reference:

- [Scabini et al., 2022](https://arxiv.org/abs/2207.08148)
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_parewire.kernels import Tensor


def rewire_matrix(
    matrix: Tensor,
    noise: Sequence[Tensor],
    exponent: float = 1.0,
    block_size: int = 1,
) -> Tensor:
    """PA-rewires a matrix. Pure and traceable.

    Args:
        matrix: Floating-point tensor of shape `(inputs, outputs)`.
        noise: A pair of float32 tensors, one a pass, of shapes
            `(outputs - 1, inputs)` and `(inputs - 1, outputs)`: samples of
            `Exp(1)`, raised to `1 / max(exponent, 1)`. A pass' first row stays
            in place and needs none.
        exponent: Of the attachment probability, 0 or more.
        block_size: How many rows share one snapshot of the strengths.

    Returns:
        A tensor of the same shape, dtype and values.
    """
    by_outputs, by_inputs = noise
    matrix = ops.transpose(matrix)
    matrix = _rewire_rows(matrix, by_outputs, exponent, block_size)
    matrix = ops.transpose(matrix)
    return _rewire_rows(matrix, by_inputs, exponent, block_size)


def _rewire_rows(
    rows: Tensor, noise: Tensor, exponent: float, block_size: int
) -> Tensor:
    """One pass over `rows`, of shape `(visited, others)`."""
    visited, others = rows.shape
    if visited == 1 or others == 1:
        return rows
    dtype = keras.backend.standardize_dtype(rows.dtype)
    wide = "float64" if dtype == "float64" else "float32"
    rows = ops.cast(rows, wide)
    block_size = min(block_size, visited - 1)
    blocks = -(-(visited - 1) // block_size)
    # A block of one row goes without an axis for its rows: on TensorFlow,
    # every operation less in the loop shows.
    single = block_size == 1
    in_block = (others,) if single else (block_size, others)
    starts = ops.expand_dims(ops.arange(block_size) * others, 1)
    empty = ops.zeros(block_size * others, wide)

    def visit(strengths: Tensor, block: tuple[Tensor, Tensor]) -> Any:
        weights, noise = block
        strengths = ops.cast(strengths, "float32")
        clocks = noise / attachment(strengths, ops.min(strengths), exponent)
        places = _argsort(clocks)
        if not single:
            places = ops.reshape(places + starts, (-1,))
        placed = ops.scatter_update(empty, ops.expand_dims(places, 1), weights)
        placed = ops.reshape(placed, in_block)
        total = ops.cast(placed, "float32")
        if not single:
            total = sum_rows(total)
        return ops.cast(strengths + total, wide), placed

    ascending = _sort_rows(rows[1:])
    if not single:
        # Rows of zeros fill the last block; what comes of them is cut off.
        padding = ((0, blocks * block_size - (visited - 1)), (0, 0))
        ascending = ops.reshape(ops.pad(ascending, padding), (blocks, -1))
        noise = ops.reshape(ops.pad(noise, padding), (blocks, *in_block))
    # TensorFlow's `scan` wants a step's output to be like its carry in shape
    # and dtype: every row of a block has a copy of the strengths.
    strengths = ops.broadcast_to(rows[0], in_block)
    _, placed = ops.scan(visit, strengths, (ascending, noise))
    placed = ops.reshape(placed, (-1, others))[: visited - 1]
    return ops.cast(ops.concatenate([rows[:1], placed], axis=0), dtype)


def attachment(strengths: Tensor, weakest: Tensor, exponent: float) -> Tensor:
    """`P ** min(exponent, 1)`, of arrays or tensors."""
    # The `+ 1` is the authors': it keeps every probability above zero.
    attachment = strengths + (abs(weakest) + 1.0)
    return attachment if exponent >= 1 else attachment**exponent


def sum_rows(rows: Tensor) -> Tensor:
    """Sums an array or tensor over axis 0, which is kept, by halves.

    The order of a floating-point sum shows in its last bits, and every backend
    has an order of its own. This one is the same everywhere.
    """
    count, odd = rows.shape[0], None
    while count > 1:
        half = count // 2
        if count % 2:
            last = rows[count - 1 :]
            odd = last if odd is None else odd + last
        rows = rows[:half] + rows[half : 2 * half]
        count = half
    return rows if odd is None else rows + odd


def _sort_rows(rows: Tensor) -> Tensor:
    """Sorts the rows of a float32 or float64 tensor by their bits.

    As integers, `-0.0` and `0.0` differ, and XLA sorts them several times
    faster than floats.
    """
    dtype = keras.backend.standardize_dtype(rows.dtype)
    bits = ops.view(rows, "int64" if dtype == "float64" else "int32")
    bits = ops.sort(_mirror_negatives(bits), axis=1)
    return ops.view(_mirror_negatives(bits), dtype)


def _argsort(clocks: Tensor) -> Tensor:
    """The stable order of non-negative float32 numbers in each row.

    XLA sorts integers four times faster than pairs of a number and its place.
    So on JAX the order is found digit by digit: non-negative floats order like
    their bits, and each digit is sorted in one integer with the column it came
    from below it.
    """
    others = clocks.shape[-1]
    column_bits = (others - 1).bit_length()
    if keras.backend.backend() != "jax" or column_bits > 15:
        return ops.argsort(clocks, axis=-1)
    digit_bits = 31 - column_bits
    columns = ops.arange(others, dtype="int32")

    def order(digits: Tensor) -> Tensor:
        keys = ops.bitwise_or(ops.left_shift(digits, column_bits), columns)
        return ops.bitwise_and(ops.sort(keys, axis=-1), 2**column_bits - 1)

    bits = ops.view(clocks, "int32")
    low = order(ops.bitwise_and(bits, 2**digit_bits - 1))
    high = ops.take_along_axis(ops.right_shift(bits, digit_bits), low, axis=-1)
    return ops.take_along_axis(low, order(high), axis=-1)


def _mirror_negatives(bits: Tensor) -> Tensor:
    """Turns the bits of floats into integers of the same order, and back.

    Floats are stored as sign and magnitude, so negative ones run backwards.
    """
    magnitude = 2**63 - 1 if "int64" in str(bits.dtype) else 2**31 - 1
    return ops.where(bits < 0, ops.bitwise_xor(bits, magnitude), bits)
