"""The rule of preferential-attachment (PA) rewiring, in `keras.ops`.

A kernel is a matrix of shape `(inputs, outputs)`, and the *strength* of a
neuron is the sum of its weights. One pass visits the neurons on one side, one
after the other. A neuron has one weight for every neuron on the opposite side;
`s` are the opposite neurons' strengths over the rows visited so far. The
opposite neurons are drawn one by one without replacement, with probabilities
proportional to `P ** exponent`, where

    P = s + |min(s)| + 1,

and receive the row's weights in ascending order. The strongest neuron tends to
be drawn first and so to receive the smallest weight. The first pass visits the
output neurons, the second the input neurons of the result.

**The draw.** Successive sampling without replacement is the same as sorting
independent exponential clocks: with `E ~ Exp(1)`, the order is the ascending
one of `E / P ** exponent`. Raising all clocks to the same positive power keeps
the order, so for exponents of 1/4 and above the clock is

    E ** (1 / exponent) / P,

and below 1/4 it is `E / P ** exponent`. This is exact at 0 (a uniform shuffle)
and at infinity (greedy by strength), and cannot overflow in between. The
numerator is called `noise` and is drawn in advance (`noise.py`). At exponents
of 1/4 and above, and at 0, the loop then consists of sums, minima, divisions
and sorts, which are exact in IEEE arithmetic: this is why `numpy_engine.py`,
the same rule in NumPy, gives the same kernel bit for bit.

Reference:

- [Scabini et al., 2022](https://arxiv.org/abs/2207.08148)
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.noise import LEAST_EXACT_EXPONENT, TracedDraw
from keras_parewire.rewiring.philox import BLOCK
from keras_parewire.rewiring.sorting import argsort_tensor, sort_tensor_rows
from keras_parewire.rewiring.validation import Tensor

# How many weights are sorted, and get their noise, at a time: enough to hide
# the cost of an operation, and little memory compared with a large kernel.
_SLAB = 2**18


def rewire_matrix(
    matrix: Tensor,
    noise: Sequence[TracedDraw],
    exponent: float = 1.0,
    block_size: int = 1,
) -> Tensor:
    """PA-rewires a matrix. Pure and traceable.

    Args:
        matrix: Floating-point tensor of shape `(inputs, outputs)`.
        noise: A pair of functions that draw the noise, one for each pass, see
            `traced_noise`. The first row of a pass stays in place and needs
            none.
        exponent: Exponent of the attachment probability, 0 or more.
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
    rows: Tensor, noise: TracedDraw, exponent: float, block_size: int
) -> Tensor:
    """Runs one pass over `rows`, of shape `(visited, others)`."""
    visited, others = rows.shape
    if visited == 1 or others == 1:
        return rows
    dtype = keras.backend.standardize_dtype(rows.dtype)
    wide = "float64" if dtype == "float64" else "float32"
    rows = ops.cast(rows, wide)
    block_size = min(block_size, visited - 1)
    slabs, blocks = _slabs(visited - 1, others, block_size)
    slab_rows = blocks * block_size
    # A block of a single row has no axis for its rows: on TensorFlow, each
    # operation in the loop adds noticeable time.
    single = block_size == 1
    in_block = (others,) if single else (block_size, others)
    starts = ops.expand_dims(ops.arange(block_size) * others, 1)
    empty = ops.zeros(block_size * others, wide)

    def visit(strengths: Tensor, block: tuple[Tensor, Tensor]) -> Any:
        weights, noise = block
        strengths = ops.cast(strengths, "float32")
        clocks = noise / attachment(strengths, ops.min(strengths), exponent)
        places = argsort_tensor(clocks)
        if not single:
            places = ops.reshape(places + starts, (-1,))
        placed = ops.scatter_update(empty, ops.expand_dims(places, 1), weights)
        placed = ops.reshape(placed, in_block)
        total = ops.cast(placed, "float32")
        if not single:
            total = sum_rows(total, ops)
        return ops.cast(strengths + total, wide), placed

    # TensorFlow's `scan` requires a step's output to match its carry in shape
    # and dtype, so every row of a block, and then of a slab, has a copy of the
    # strengths.
    def visit_slab(strengths: Tensor, slab: tuple[Tensor, Tensor]) -> Any:
        rows, number = slab
        ascending = ops.reshape(sort_tensor_rows(rows), (blocks, -1))
        in_units = slab_rows * others // BLOCK
        samples = noise(number * in_units, -(-slab_rows * others // BLOCK))
        samples = samples[: slab_rows * others]
        samples = ops.reshape(samples, (blocks, *in_block))
        first = ops.broadcast_to(strengths[0], in_block)
        last, placed = ops.scan(visit, first, (ascending, samples))
        last = last if single else last[0]
        placed = ops.reshape(placed, (slab_rows, others))
        return ops.broadcast_to(last, (slab_rows, others)), placed

    # Rows of zeros fill up the last block and slab, and are cut off afterwards.
    padding = ((0, slabs * slab_rows - (visited - 1)), (0, 0))
    padded = ops.reshape(ops.pad(rows[1:], padding), (slabs, slab_rows, others))
    strengths = ops.broadcast_to(rows[0], (slab_rows, others))
    if slabs == 1:
        _, placed = visit_slab(strengths, (padded[0], 0))
    else:
        numbers = ops.arange(slabs, dtype="int32")
        _, placed = ops.scan(visit_slab, strengths, (padded, numbers))
    placed = ops.reshape(placed, (-1, others))[: visited - 1]
    return ops.cast(ops.concatenate([rows[:1], placed], axis=0), dtype)


def _slabs(visited: int, others: int, block_size: int) -> tuple[int, int]:
    """Returns the number of slabs, and the number of blocks in each.

    If there are several slabs, each begins with a new block of noise.
    """
    blocks = -(-visited // block_size)
    in_block = block_size * others
    slabs = -(-blocks // max(1, _SLAB // in_block))
    if slabs == 1:
        return 1, blocks
    whole = BLOCK // math.gcd(BLOCK, in_block)
    in_slab = -(-blocks // (slabs * whole)) * whole
    return -(-blocks // in_slab), in_slab


def attachment(strengths: Tensor, weakest: Tensor, exponent: float) -> Tensor:
    """Returns the denominator of the clocks, for arrays and tensors alike."""
    # The `+ 1` is the authors': it keeps every probability above zero.
    attachment = strengths + (abs(weakest) + 1.0)
    if exponent >= LEAST_EXACT_EXPONENT:
        return attachment
    return attachment**exponent


def sum_rows(rows: Tensor, xp: Any) -> Tensor:
    """Sums an array or tensor over axis 0 by halves, and keeps the axis.

    The order of a floating-point sum affects its last bits, and every backend
    has an order of its own. This one is the same everywhere.
    """
    count, odd = rows.shape[0], None
    while count > 1:
        half = count // 2
        if count % 2:
            last = rows[count - 1 :]
            odd = last if odd is None else _add(odd, last, xp)
        rows = _add(rows[:half], rows[half : 2 * half], xp)
        count = half
    return rows if odd is None else _add(rows, odd, xp)


def _add(one: Tensor, other: Tensor, xp: Any) -> Tensor:
    total = one + other
    # TensorFlow's graph optimizer would gather bare additions and sum them in
    # another order.
    return total if xp is np else ops.maximum(total, -math.inf)
