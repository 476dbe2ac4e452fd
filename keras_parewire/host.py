"""The rule of `rule.py` in NumPy, for kernels whose values are at hand.

Row after row of small steps is what compilers and accelerators are worst at:
on a CPU this is several times faster than any backend's loop, and needs no
compilation. It gives the same kernel, bit for bit, from the same noise.
"""

from collections.abc import Callable

import numpy as np

from keras_parewire.rule import attachment, mirror_negatives, sum_rows

# Noise is drawn for many rows at once, but never for more weights than this:
# enough to hide the cost of a call, little enough to stay in cache.
_SLAB = 2**16

Draw = Callable[[tuple[int, int]], np.ndarray]


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
    rows = np.array(matrix.T, dtype=wide, order="C")
    _rewire_rows(rows, draw, exponent, block_size)
    rows = np.array(rows.T, order="C")
    _rewire_rows(rows, draw, exponent, block_size)
    return rows.astype(matrix.dtype, copy=False)


def _rewire_rows(
    rows: np.ndarray, draw: Draw, exponent: float, block_size: int
) -> None:
    """One pass over `rows`, of shape `(visited, others)`, in place."""
    visited, others = rows.shape
    if visited == 1 or others == 1:
        return
    block_size = min(block_size, visited - 1)
    slab = max(1, _SLAB // (others * block_size)) * block_size
    starts = np.arange(block_size, dtype=np.int64)[:, np.newaxis] * others
    columns = np.arange(others, dtype=np.int64)
    strengths = rows[0].astype(np.float32)
    for first in range(1, visited, slab):
        noise = draw((min(slab, visited - first), others))
        ascending = _sort_rows(rows[first : first + slab])
        for start in range(0, len(noise), block_size):
            block = slice(start, start + block_size)
            clocks = noise[block] / attachment(strengths, exponent, np)
            places = _argsort(clocks, columns) + starts[: len(clocks)]
            placed = rows[first : first + slab][block]
            placed.reshape(-1)[places] = ascending[block]
            strengths += sum_rows(placed.astype(np.float32, copy=False))


def _sort_rows(rows: np.ndarray) -> np.ndarray:
    """Sorts each row by the bits of its values, as in `rule.py`.

    NumPy's vectorised sort of floats may turn a `-0.0` into a `0.0`.
    """
    bits = mirror_negatives(rows.view(f"i{rows.itemsize}"), np)
    bits.sort(axis=1)
    ascending: np.ndarray = mirror_negatives(bits, np).view(rows.dtype)
    return ascending


def _argsort(clocks: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The stable order of non-negative float32 numbers in each row.

    They order like their bits. With the column below them in one integer, a
    plain sort, much faster than an `argsort`, finds the order and breaks ties.
    """
    keys = clocks.view(np.int32).astype(np.int64)
    keys <<= 32
    keys |= columns
    keys.sort(axis=1)
    keys &= 2**32 - 1
    return keys
