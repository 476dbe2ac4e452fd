"""The rule of `traced_engine.py` in NumPy, for kernels of known values.

Compilers and accelerators are slow at a long series of small steps: on a CPU,
this engine is several times faster than any backend's loop, and it needs no
compilation. Given the same noise, it returns the same kernel, bit for bit.

**The second thread** prepares what does not depend on the strengths, in few and
long calls, between which Python's global lock is passed on: a kernel of 4096 x
4096 takes two thirds of the time on two cores, and a tenth more on one.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_parewire.rewiring.attachment import attachment
from keras_parewire.rewiring.noise import HostDraw
from keras_parewire.rewiring.sorting import host_sorted

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
    matrix: np.ndarray, noise: Sequence[HostDraw], exponent: float
) -> np.ndarray:
    """PA-rewires a matrix, as `traced_engine.rewire_matrix` does.

    The noise comes from `host_noise`; the result is a new array.
    """
    wide = np.float64 if matrix.dtype == np.float64 else np.float32
    rows = _transpose(matrix, wide)
    rewire_rows(rows, noise[0], exponent)
    rows = _transpose(rows, wide)
    rewire_rows(rows, noise[1], exponent)
    return rows.astype(matrix.dtype, copy=False)


def _transpose(matrix: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns a transposed copy, made in strips: faster for large matrices."""
    transposed = np.empty(matrix.shape[::-1], dtype)
    for start in range(0, len(matrix), _STRIP):
        strip = slice(start, start + _STRIP)
        transposed[:, strip] = matrix[strip].T
    return transposed


def rewire_rows(rows: np.ndarray, noise: HostDraw, exponent: float) -> None:
    """Runs one pass over `rows`, of shape `(visited, others)`, in place."""
    visited, others = rows.shape
    if visited == 1 or others == 1:
        return
    strengths = rows[0].astype(np.float32)
    ahead = rows.size >= _AHEAD
    slabs = _prepare(rows, noise, _SLAB_AHEAD if ahead else _SLAB)
    for slab in _one_ahead(slabs) if ahead else slabs:
        _visit(*slab, strengths, exponent)


def _prepare(
    rows: np.ndarray, noise: HostDraw, slab_size: int
) -> Iterator[Slab]:
    """Yields, slab by slab, everything that does not depend on the strengths.

    That is the slab itself, some rows of shape `(count, others)`, the same with
    sorted rows, and the noise.
    """
    visited, others = rows.shape
    slab_rows = max(1, slab_size // others)
    for first in range(1, visited, slab_rows):
        slab = rows[first : first + slab_rows]
        samples = noise((first - 1) * others, slab.size)
        yield slab, host_sorted(slab), samples.reshape(slab.shape)


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
    rows: np.ndarray,
    ascending: np.ndarray,
    noise: np.ndarray,
    strengths: np.ndarray,
    exponent: float,
) -> None:
    """Visits the rows of a slab, changing `rows` and `strengths` in place.

    The overhead of a NumPy call equals its work on about 500 weights, so
    buffers and views are made in advance.
    """
    others = rows.shape[1]
    # Non-negative floats sort like their bits. With each clock and its column
    # packed into one integer, a plain sort, much faster than an `argsort`,
    # finds the order and breaks ties as a stable sort does.
    keys = np.empty(others, np.int64)
    clocks = keys.view(np.float32)[_HIGH::2]
    places = keys.view(np.int32)[1 - _HIGH :: 2]
    columns = np.arange(others, dtype=np.int32)
    order = np.empty(others, np.intp)
    for row, weights, samples in zip(rows, ascending, noise, strict=True):
        weakest = np.minimum.reduce(strengths)
        divisor = attachment(strengths, weakest, exponent)
        np.divide(samples, divisor, out=clocks)
        places[...] = columns
        keys.sort()
        order[...] = places
        row[order] = weights
        np.add(strengths, row, out=strengths, dtype=np.float32)
