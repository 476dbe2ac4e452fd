"""The rule of `rule.py` in NumPy, for kernels whose values are at hand.

Row after row of small steps is what compilers and accelerators are worst at:
on a CPU this is several times faster than any backend's loop, and needs no
compilation. It gives the same kernel, bit for bit, from the same noise.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_parewire.rule import attachment, sum_rows
from keras_parewire.seeding import Draw

# How many weights are prepared at once: enough to hide the cost of handing them
# over, few enough to stay in cache.
_SLAB = 2**17
# From this many on, a second thread prepares the next slab meanwhile. It takes
# a third off the time of large kernels, and would cost small ones more.
_THREADED = 2**18
# Columns that are written side by side when a matrix is transposed.
_STRIP = 32
# Which half of a 64-bit integer's memory is the higher one.
_HIGH = 1 if sys.byteorder == "little" else 0

Slab = tuple[np.ndarray, np.ndarray, np.ndarray]


def rewire_matrix(
    matrix: np.ndarray, draw: Draw, exponent: float, block_size: int
) -> np.ndarray:
    """PA-rewires a matrix, as `rule.rewire_matrix` does.

    Args:
        matrix: Floating-point array of shape `(inputs, outputs)`.
        draw: Gives the next noise of a shape. Called for consecutive rows of
            the first pass, then of the second.
        exponent: Of the attachment probability, 0 or more.
        block_size: How many rows share one snapshot of the strengths.

    Returns:
        A new array of the same shape, dtype and values.
    """
    wide = np.float64 if matrix.dtype == np.float64 else np.float32
    rows = _transpose(matrix, wide)
    rewire_rows(rows, draw, exponent, block_size)
    rows = _transpose(rows, wide)
    rewire_rows(rows, draw, exponent, block_size)
    return rows.astype(matrix.dtype, copy=False)


def _transpose(matrix: np.ndarray, dtype: Any) -> np.ndarray:
    """Copies a transposed matrix in strips, several times faster if large."""
    transposed = np.empty(matrix.shape[::-1], dtype)
    for start in range(0, len(matrix), _STRIP):
        strip = slice(start, start + _STRIP)
        transposed[:, strip] = matrix[strip].T
    return transposed


def rewire_rows(
    rows: np.ndarray, draw: Draw, exponent: float, block_size: int
) -> None:
    """One pass over `rows`, of shape `(visited, others)`, in place."""
    visited, others = rows.shape
    if visited == 1 or others == 1:
        return
    strengths = rows[0].astype(np.float32)
    slabs = _prepare(rows, draw, block_size)
    if rows.size >= _THREADED:
        slabs = _one_ahead(slabs)
    for blocks, ascending, noise in slabs:
        _visit(blocks, ascending, noise, strengths, exponent)


def _prepare(rows: np.ndarray, draw: Draw, block_size: int) -> Iterator[Slab]:
    """Yields what does not depend on the strengths, for slab after slab.

    That is the slab in blocks of rows, of shape `(blocks, block_size, others)`,
    its rows sorted, and their noise, of the same shape.
    """
    visited, others = rows.shape
    slab_size = max(1, _SLAB // (others * block_size)) * block_size
    first = 1
    while first < visited:
        left = visited - first
        # The pass' last block may be smaller than the others.
        block_size = min(block_size, left)
        size = min(slab_size, left // block_size * block_size)
        slab = rows[first : first + size]
        in_blocks = (-1, block_size, others)
        yield (
            slab.reshape(in_blocks),
            _sort_rows(slab).reshape(in_blocks),
            draw(slab.shape).reshape(in_blocks),
        )
        first += size


def _one_ahead(slabs: Iterator[Slab]) -> Iterator[Slab]:
    """Yields the slabs while a thread makes the next one."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        following = thread.submit(next, slabs, None)
        while (slab := following.result()) is not None:
            following = thread.submit(next, slabs, None)
            yield slab


def _visit(
    blocks: np.ndarray,
    ascending: np.ndarray,
    noise: np.ndarray,
    strengths: np.ndarray,
    exponent: float,
) -> None:
    """Visits a slab; changes `blocks` and `strengths` in place.

    Each step costs a call to NumPy, which takes about as long as its work on a
    row of 500: hence the buffers and views made ahead, and flat single rows.
    """
    count, block_size, others = blocks.shape
    single = block_size == 1
    in_block = (others,) if single else (block_size, others)
    # Non-negative floats order like their bits. With its place below it in one
    # integer, a plain sort, much faster than an `argsort`, finds their order
    # and breaks ties as a stable one.
    keys = np.empty(in_block, np.int64)
    clocks = keys.view(np.float32)[..., _HIGH::2]
    places = keys.view(np.int32)[..., 1 - _HIGH :: 2]
    unordered = np.arange(block_size * others, dtype=np.int32).reshape(in_block)
    order = np.empty(in_block, np.intp)
    flat_order = order.reshape(-1)
    for block, weights, block_noise in zip(
        blocks.reshape(count, -1),
        ascending.reshape(count, -1),
        noise.reshape(count, *in_block),
        strict=True,
    ):
        weakest = np.minimum.reduce(strengths)
        divisor = attachment(strengths, weakest, exponent)
        np.divide(block_noise, divisor, out=clocks)
        places[...] = unordered
        keys.sort(axis=-1)
        order[...] = places
        block[flat_order] = weights
        total = block
        if not single:
            total = block.reshape(in_block).astype(np.float32, copy=False)
            total = sum_rows(total)[0]
        np.add(strengths, total, out=strengths, dtype=np.float32)


def _sort_rows(rows: np.ndarray) -> np.ndarray:
    """Returns the rows sorted by the bits of their values, as in `rule.py`.

    NumPy's vectorised sort of floats may turn a `-0.0` into a `0.0`.
    """
    bits = rows.view(f"i{rows.itemsize}").copy()
    mirror_negatives(bits)
    bits.sort(axis=1)
    mirror_negatives(bits)
    return bits.view(rows.dtype)


def mirror_negatives(bits: np.ndarray) -> None:
    """As in `rule.py`, in place."""
    flip = bits >> (8 * bits.itemsize - 1)  # 0, or -1 for a negative number.
    flip &= np.iinfo(bits.dtype).max
    bits ^= flip
