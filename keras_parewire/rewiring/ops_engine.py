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

from keras_parewire.rewiring.sorting import argsort_tensor, sort_tensor_rows
from keras_parewire.rewiring.validation import Tensor

# Below this exponent `E ** (1 / exponent)` would not fit into a float32.
LEAST_EXACT_EXPONENT = 0.25


def rewire_matrix(
    matrix: Tensor,
    noise: Sequence[Tensor],
    exponent: float = 1.0,
    block_size: int = 1,
) -> Tensor:
    """PA-rewires a matrix. Pure and traceable.

    Args:
        matrix: Floating-point tensor of shape `(inputs, outputs)`.
        noise: A pair of float32 tensors, one for each pass, of shapes
            `(outputs - 1, inputs)` and `(inputs - 1, outputs)`: the numerators
            of the clocks. The first row of a pass stays in place and needs
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
    rows: Tensor, noise: Tensor, exponent: float, block_size: int
) -> Tensor:
    """Runs one pass over `rows`, of shape `(visited, others)`."""
    visited, others = rows.shape
    if visited == 1 or others == 1:
        return rows
    dtype = keras.backend.standardize_dtype(rows.dtype)
    wide = "float64" if dtype == "float64" else "float32"
    rows = ops.cast(rows, wide)
    block_size = min(block_size, visited - 1)
    blocks = -(-(visited - 1) // block_size)
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

    ascending = sort_tensor_rows(rows[1:])
    if not single:
        # Rows of zeros fill up the last block and are cut off afterwards.
        padding = ((0, blocks * block_size - (visited - 1)), (0, 0))
        ascending = ops.reshape(ops.pad(ascending, padding), (blocks, -1))
        noise = ops.reshape(ops.pad(noise, padding), (blocks, *in_block))
    # TensorFlow's `scan` requires a step's output to match its carry in shape
    # and dtype, so every row of a block has a copy of the strengths.
    strengths = ops.broadcast_to(rows[0], in_block)
    _, placed = ops.scan(visit, strengths, (ascending, noise))
    placed = ops.reshape(placed, (-1, others))[: visited - 1]
    return ops.cast(ops.concatenate([rows[:1], placed], axis=0), dtype)


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
