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

from typing import Any

import keras
from keras import ops

from keras_parewire.kernels import Tensor


def rewire_matrix(
    matrix: Tensor,
    noise: tuple[Tensor, Tensor],
    exponent: float = 1.0,
    block_size: int = 1,
) -> Tensor:
    """PA-rewires a matrix. Pure and traceable.

    Args:
        matrix: Floating-point tensor of shape `(inputs, outputs)`.
        noise: One float32 tensor a pass, of shapes `(outputs - 1, inputs)` and
            `(inputs - 1, outputs)`: samples of `Exp(1)`, raised to
            `1 / max(exponent, 1)`. A pass' first row stays in place and needs
            none.
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
    padding = ((0, blocks * block_size - (visited - 1)), (0, 0))
    in_blocks = (blocks, block_size, others)
    # Where each row of a block starts when the block is one flat vector.
    starts = ops.reshape(ops.arange(block_size) * others, (block_size, 1))

    def visit(strengths: Tensor, block: tuple[Tensor, Tensor]) -> Any:
        weights, noise = block
        strengths = ops.cast(strengths[0], "float32")
        clocks = noise / attachment(strengths, exponent, ops)
        places = ops.cast(ops.argsort(clocks, axis=1), starts.dtype) + starts
        placed = ops.scatter_update(
            ops.zeros(block_size * others, wide),
            ops.reshape(places, (-1, 1)),
            ops.reshape(weights, (-1,)),
        )
        placed = ops.reshape(placed, (block_size, others))
        strengths = strengths + sum_rows(ops.cast(placed, "float32"))
        return as_carry(strengths), placed

    # TensorFlow's `scan` wants a step's output to be like its carry in shape
    # and dtype, hence a copy of the strengths for each row of a block.
    def as_carry(strengths: Tensor) -> Tensor:
        strengths = ops.cast(strengths, wide)
        return ops.broadcast_to(strengths, (block_size, others))

    ascending = ops.pad(_sort_rows(rows[1:]), padding)
    noise = ops.pad(noise, padding)
    _, placed = ops.scan(
        visit,
        as_carry(ops.cast(rows[0], "float32")),
        (ops.reshape(ascending, in_blocks), ops.reshape(noise, in_blocks)),
    )
    placed = ops.reshape(placed, (blocks * block_size, others))
    placed = ops.concatenate([rows[:1], placed[: visited - 1]], axis=0)
    return ops.cast(placed, dtype)


def attachment(strengths: Tensor, exponent: float, xp: Any) -> Tensor:
    """`P ** min(exponent, 1)`; `xp` is `numpy` or `keras.ops`."""
    # The `+ 1` is the authors': it keeps every probability above zero.
    attachment = strengths + xp.abs(xp.min(strengths)) + 1.0
    return attachment if exponent >= 1 else attachment**exponent


def sum_rows(rows: Tensor) -> Tensor:
    """Sums an array or tensor over axis 0, by halves.

    The order of a floating-point sum shows in its last bits, and every backend
    has an order of its own. This one is the same everywhere.
    """
    count, odd = rows.shape[0], 0.0
    while count > 1:
        if count % 2:
            odd = odd + rows[count - 1]
        count //= 2
        rows = rows[:count] + rows[count : 2 * count]
    return rows[0] + odd


def _sort_rows(rows: Tensor) -> Tensor:
    """Sorts the rows of a float32 or float64 tensor by their bits.

    As integers, `-0.0` and `0.0` differ, and XLA sorts them several times
    faster than floats.
    """
    dtype = keras.backend.standardize_dtype(rows.dtype)
    bits = ops.view(rows, "int64" if dtype == "float64" else "int32")
    bits = ops.sort(mirror_negatives(bits, ops), axis=1)
    return ops.view(mirror_negatives(bits, ops), dtype)


def mirror_negatives(bits: Tensor, xp: Any) -> Tensor:
    """Turns the bits of floats into integers of the same order, and back.

    Floats are stored as sign and magnitude, so negative ones run backwards.
    `xp` is `numpy` or `keras.ops`.
    """
    magnitude = 2**63 - 1 if "int64" in str(bits.dtype) else 2**31 - 1
    return xp.where(bits < 0, xp.bitwise_xor(bits, magnitude), bits)
