"""The rule of `ops_engine.py` in NumPy, for kernels whose values are known.

Compilers and accelerators are slow at a long series of small steps: on a CPU,
this engine is several times faster than any backend's loop, and it needs no
compilation. Given the same noise, it returns the same kernel, bit for bit, with
any number of threads.

**Threads.** NumPy lets other threads run while it sorts or calculates, but they
all need Python's global lock between two calls, and passing it on takes longer
than a call on a short row. What does not depend on the strengths takes few
calls, so a second thread prepares it. For several kernels at the same time, see
`models/execution.py`.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_parewire.rewiring.noise import Draw
from keras_parewire.rewiring.ops_engine import attachment, sum_rows
from keras_parewire.rewiring.sorting import sort_rows

# How many weights are prepared at a time: enough to hide the cost of a call,
# few enough to stay in cache.
_SLAB = 2**17
# From this many weights on, a second thread prepares the next slab. Each slab
# has to be passed between threads, so these slabs are larger.
_AHEAD = 2**20
_SLAB_AHEAD = 2**19
# How many columns are written side by side when a matrix is transposed.
_STRIP = 32
# Which half of a 64-bit integer in memory is the high one.
_HIGH = 1 if sys.byteorder == "little" else 0

Slab = tuple[np.ndarray, np.ndarray, np.ndarray]


def rewire_matrix(
    matrix: np.ndarray,
    noise: Sequence[Draw],
    exponent: float,
    block_size: int,
    threads: int = 1,
) -> np.ndarray:
    """PA-rewires a matrix, as `ops_engine.rewire_matrix` does.

    Args:
        matrix: Floating-point array of shape `(inputs, outputs)`.
        noise: A pair of functions that draw the noise, one for each pass, see
            `host_noise`.
        exponent: Exponent of the attachment probability, 0 or more.
        block_size: How many rows share one snapshot of the strengths.
        threads: How many threads may work at once.

    Returns:
        A new array of the same shape, dtype and values.
    """
    wide = np.float64 if matrix.dtype == np.float64 else np.float32
    rows = _transpose(matrix, wide, threads)
    rewire_rows(rows, noise[0], exponent, block_size, threads)
    rows = _transpose(rows, wide, threads)
    rewire_rows(rows, noise[1], exponent, block_size, threads)
    return rows.astype(matrix.dtype, copy=False)


def _transpose(matrix: np.ndarray, dtype: Any, threads: int) -> np.ndarray:
    """Returns a transposed copy, made in strips: faster for large matrices."""
    transposed = np.empty(matrix.shape[::-1], dtype)

    def copy(start: int) -> None:
        strip = slice(start, start + _STRIP)
        transposed[:, strip] = matrix[strip].T

    starts = range(0, len(matrix), _STRIP)
    if threads > 1 and matrix.size >= _AHEAD:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(copy, starts))
    else:
        for start in starts:
            copy(start)
    return transposed


def rewire_rows(
    rows: np.ndarray,
    noise: Draw,
    exponent: float,
    block_size: int,
    threads: int = 1,
) -> None:
    """Runs one pass over `rows`, of shape `(visited, others)`, in place."""
    visited, others = rows.shape
    if visited == 1 or others == 1:
        return
    strengths = rows[0].astype(np.float32)
    ahead = threads > 1 and rows.size >= _AHEAD
    slab_size = _SLAB_AHEAD if ahead else _SLAB
    slabs = _prepare(rows, noise, block_size, slab_size)
    for slab in _one_ahead(slabs) if ahead else slabs:
        _visit(*slab, strengths, exponent)


def _prepare(
    rows: np.ndarray, noise: Draw, block_size: int, slab_size: int
) -> Iterator[Slab]:
    """Yields, slab by slab, everything that does not depend on the strengths.

    That is the slab itself, cut into blocks of rows of shape
    `(blocks, block_size, others)`, the same slab with sorted rows, and the
    noise.
    """
    visited, others = rows.shape
    slab_rows = max(1, slab_size // (others * block_size)) * block_size
    first = 1
    while first < visited:
        left = visited - first
        # The last block of a pass may be smaller than the others.
        block_size = min(block_size, left)
        count = min(slab_rows, left // block_size * block_size)
        slab = rows[first : first + count]
        in_blocks = (-1, block_size, others)
        yield (
            slab.reshape(in_blocks),
            sort_rows(slab).reshape(in_blocks),
            noise((first - 1) * others, slab.size).reshape(in_blocks),
        )
        first += count


def _one_ahead(slabs: Iterator[Slab]) -> Iterator[Slab]:
    """Yields the slabs while a thread prepares the next one."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        following = thread.submit(next, slabs, None)
        while (slab := following.result()) is not None:
            following = thread.submit(next, slabs, None)
            yield slab


# Beside strengths from 2**24 on, the 1 that the rule adds is lost in rounding,
# and the weakest neurons get a divisor of 0.
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _visit(
    blocks: np.ndarray,
    ascending: np.ndarray,
    noise: np.ndarray,
    strengths: np.ndarray,
    exponent: float,
) -> None:
    """Visits the rows of a slab, changing `blocks` and `strengths` in place.

    The overhead of a NumPy call equals its work on about 500 weights, so
    buffers and views are made in advance, and single rows get no extra axis.
    """
    count, block_size, others = blocks.shape
    single = block_size == 1
    in_block = (others,) if single else (block_size, others)
    # Non-negative floats sort like their bits. With each clock and its column
    # packed into one integer, a plain sort, much faster than an `argsort`,
    # finds the order and breaks ties as a stable sort does.
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
            total = sum_rows(total, np)[0]
        np.add(strengths, total, out=strengths, dtype=np.float32)
