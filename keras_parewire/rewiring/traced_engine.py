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
and sorts, which are exact in IEEE arithmetic: this is why `host_engine.py`, the
same rule in NumPy, gives the same kernel bit for bit.

Reference:

- [Scabini et al., 2024](https://arxiv.org/abs/2207.08148), Neurocomputing
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_parewire.rewiring.attachment import attachment
from keras_parewire.rewiring.noise import TracedDraw
from keras_parewire.rewiring.philox import BLOCK
from keras_parewire.rewiring.sorting import traced_argsort, traced_sorted
from keras_parewire.rewiring.values import Tensor

# How many weights are sorted, and get their noise, at a time: enough to hide
# the cost of an operation, and little memory compared with a large kernel.
_SLAB = 2**18


def rewire_matrix(
    matrix: Tensor, noise: Sequence[TracedDraw], exponent: float = 1.0
) -> Tensor:
    """PA-rewires a matrix of shape `(inputs, outputs)`. Pure and traceable.

    A pair of functions draws the noise, one for each pass, see `traced_noise`.
    The first row of a pass stays in place and needs none.
    """
    by_outputs, by_inputs = noise
    matrix = ops.transpose(matrix)
    matrix = _rewire_rows(matrix, by_outputs, exponent)
    matrix = ops.transpose(matrix)
    return _rewire_rows(matrix, by_inputs, exponent)


def _rewire_rows(rows: Tensor, noise: TracedDraw, exponent: float) -> Tensor:
    """Runs one pass over `rows`, of shape `(visited, others)`."""
    visited, others = rows.shape
    if visited == 1 or others == 1:
        return rows
    dtype = keras.backend.standardize_dtype(rows.dtype)
    wide = "float64" if dtype == "float64" else "float32"
    rows = ops.cast(rows, wide)
    slabs, slab_rows = _slabs(visited - 1, others)
    empty = ops.zeros(others, wide)

    def visit(strengths: Tensor, row: tuple[Tensor, Tensor]) -> Any:
        weights, noise = row
        strengths = ops.cast(strengths, "float32")
        clocks = noise / attachment(strengths, ops.min(strengths), exponent)
        places = ops.expand_dims(traced_argsort(clocks), 1)
        placed = ops.scatter_update(empty, places, weights)
        strengths = strengths + ops.cast(placed, "float32")
        return ops.cast(strengths, wide), placed

    # TensorFlow's `scan` requires a step's output to match its carry in shape
    # and dtype, so every row of a slab has a copy of the strengths.
    def visit_slab(strengths: Tensor, slab: tuple[Tensor, Tensor]) -> Any:
        rows, number = slab
        weights = slab_rows * others
        samples = noise(number * (weights // BLOCK), -(-weights // BLOCK))
        samples = ops.reshape(samples[:weights], (slab_rows, others))
        slab = traced_sorted(rows), samples
        last, placed = ops.scan(visit, strengths[0], slab)
        return ops.broadcast_to(last, (slab_rows, others)), placed

    # Rows of zeros fill up the last slab, and are cut off afterwards.
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


def _slabs(visited: int, others: int) -> tuple[int, int]:
    """Returns the number of slabs, and the number of rows in each.

    If there are several slabs, each begins with a new block of noise.
    """
    slabs = -(-visited // max(1, _SLAB // others))
    if slabs == 1:
        return 1, visited
    whole = BLOCK // math.gcd(BLOCK, others)
    slab_rows = -(-visited // (slabs * whole)) * whole
    return -(-visited // slab_rows), slab_rows
