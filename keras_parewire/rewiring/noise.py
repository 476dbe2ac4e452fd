"""The noise of the clocks: exponential samples, the same in both engines.

Each sample belongs to one place: a weight in a pass. Samples can therefore be
drawn in any order, on the host or inside a traced program, and are the same bit
for bit. The random bits come from `philox.py`. The arithmetic here that turns
them into samples is exact in IEEE floats, so no compiler can change even the
last bit.

**From bits to samples.** `E = -log(1 - u)` is exponential if `u` is uniform in
(0, 1). The sign of a random integer decides whether `u` is its magnitude times
`2**-32` or 1 minus that, so that the smallest and the largest samples are as
finely spaced as those between. Of the magnitude as a float32, the exponent and
the leading bits of the mantissa number a cell of a table, in which the other
bits interpolate `E ** power` linearly. A slope has so few bits that its product
with them is exact, and a compiler may fuse it with the sum.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from keras import ops

from keras_parewire.rewiring.attachment import noise_power
from keras_parewire.rewiring.philox import host_bits, traced_bits
from keras_parewire.rewiring.values import Tensor

# Draws `count` samples of a pass, from number `first` on: `draw(first, count)`.
HostDraw: TypeAlias = Callable[[int, int], np.ndarray]
# The same in blocks of eight samples, the first one an int32 tensor.
TracedDraw: TypeAlias = Callable[[Tensor, int], Tensor]

# The float32s from 1 to 2**31 have 32 exponents, 127 to 158, which differ in
# their lower five bits. A cell is numbered by its side, these bits and the
# leading bits of the mantissa.
_EXPONENT_BITS = 5
_CELL_BITS = 9
_PLACE_BITS = 23 - _CELL_BITS
_SIDE = 2 ** (_EXPONENT_BITS + _CELL_BITS)
# How many bits of the exponent are above those. A shift by as many moves the
# sign right above the bits of a cell.
_SIGN_BITS = 8 - _EXPONENT_BITS
# How many bits a slope may have: 24 together with the place.
_SLOPE_BITS = 24 - _PLACE_BITS
# How many samples are made at a time: few stay in cache, but a thread beside
# others, which asks for many, waits for its turn after each step.
_CHUNK = 2**14
_LARGEST_CHUNK = 2**17


def host_noise(
    key: Sequence[int], exponent: float, group: int = 0
) -> tuple[HostDraw, HostDraw]:
    """Returns functions that draw the noise of a matrix, one for each pass.

    At exponent 1, two samples are equal with probability 2.5e-8: 53 pairs in a
    row of 65,536, or one in 76 rows of 1,024. Such a pair is ordered by its
    columns. Higher exponents bring the samples closer together: at 10 the
    probability is 2e-7. `group` is the matrix's number in the kernel.
    """
    table = _table(noise_power(exponent))

    def draw(visits: int, first: int, count: int) -> np.ndarray:
        bits = host_bits(key, (visits, group), first, count)
        return _samples(bits, table)

    return functools.partial(draw, 0), functools.partial(draw, 1)


def traced_noise(
    key: Sequence[Tensor], exponent: float, group: int = 0
) -> tuple[TracedDraw, TracedDraw]:
    """Returns functions that draw the noise inside a program."""
    table = ops.convert_to_tensor(_table(noise_power(exponent)))

    def draw(visits: int, first: Tensor, count: int) -> Tensor:
        blocks = first + ops.arange(count, dtype="int32")
        bits = traced_bits(key, (visits, group), blocks)
        return ops.reshape(_traced_samples(bits, table), (-1,))

    return functools.partial(draw, 0), functools.partial(draw, 1)


@functools.lru_cache(maxsize=8)
def _table(power: float) -> np.ndarray:
    """Returns the table, `(cells, 2)`: each cell's first value and slope."""
    exponents = (np.arange(32) - 127) % 32  # Of the cells, in their order.
    mantissas = 1 + np.arange(2**_CELL_BITS + 1) / 2**_CELL_BITS
    # No magnitude is above 2**31: most cells of that exponent are unused.
    below = np.minimum(np.outer(2.0**exponents, mantissas) / 2**32, 0.5)
    ends = np.stack([-np.log1p(-below), -np.log(below)]) ** power
    fractions, scales = np.frexp(np.diff(ends) / 2**_PLACE_BITS)
    slopes = np.ldexp(np.rint(fractions * 2**_SLOPE_BITS), scales - _SLOPE_BITS)
    table = np.stack([ends[..., :-1], slopes], axis=-1).astype(np.float32)
    # Left writable, since PyTorch's compiler refuses read-only arrays.
    return table.reshape(-1, 2)


def _samples(bits: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Turns random int32s into samples, in place."""
    # One look-up finds both numbers of a cell.
    pairs = table.view(np.complex64)[:, 0]
    chunk_size = min(max(_CHUNK, len(bits) // 4), _LARGEST_CHUNK)
    shape = (min(chunk_size, len(bits)),)
    floats, found = np.empty(shape, np.float32), np.empty(shape, np.complex64)
    cell_bits, sides = np.empty((2, *shape), np.int32)
    cells = np.empty(shape, np.intp)
    float_bits = floats.view(np.int32)
    for start in range(0, len(bits), chunk_size):
        chunk = bits[start : start + chunk_size]
        size = len(chunk)
        chunk |= 1  # Not zero, whose logarithm is infinite.
        floats[:size] = chunk
        np.right_shift(float_bits, _PLACE_BITS, out=cell_bits)
        np.right_shift(cell_bits, _SIGN_BITS, out=sides)
        cell_bits &= _SIDE - 1
        sides &= _SIDE
        np.bitwise_or(cell_bits, sides, out=cells)
        pairs.take(cells, out=found, mode="clip")
        float_bits &= 2**_PLACE_BITS - 1
        samples = chunk.view(np.float32)
        samples[:] = float_bits[:size]
        samples *= found.imag[:size]
        samples += found.real[:size]
    return bits.view(np.float32)


def _traced_samples(bits: Tensor, table: Tensor) -> Tensor:
    bits = ops.view(ops.cast(ops.bitwise_or(bits, 1), "float32"), "int32")
    cells = ops.bitwise_and(ops.right_shift(bits, _PLACE_BITS), _SIDE - 1)
    cells = ops.where(bits < 0, cells + _SIDE, cells)
    places = ops.cast(ops.bitwise_and(bits, 2**_PLACE_BITS - 1), "float32")
    slopes = ops.take(table[:, 1], cells)
    return ops.take(table[:, 0], cells) + slopes * places
