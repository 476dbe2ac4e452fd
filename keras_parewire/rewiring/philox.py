"""Random bits by their address: Philox4x64-10, in NumPy and in `keras.ops`.

A counter-based generator computes its bits from a key and a counter instead of
a hidden state, so that any part of a stream can be computed directly from its
position, in any order. NumPy has this generator in C. The tensor function below
computes the same bits inside a program that is being traced, from 32-bit
integers, which every backend has. Blocks of a stream are numbered from 0. Two
integers name a stream, such as a pass and a group.

Reference:

- [Salmon et al., 2011](https://doi.org/10.1145/2063384.2063405)
"""

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_parewire.rewiring.values import Tensor

# How many 32-bit integers there are in a block.
BLOCK = 8

_ROUNDS = 10
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B

# For arrays; the lower half of a word comes first on any machine.
_WORD, _HALF = np.dtype("<u8"), np.dtype("<i4")
# A 64-bit word of a tensor: its high and its low half, both int32. Only the
# bits count: sums and products wrap around.
Word = tuple[Tensor, Tensor]


def host_bits(
    key: Sequence[int], stream: tuple[int, int], first: int, count: int
) -> np.ndarray:
    """Returns `count` random int32s of a stream, from number `first` on."""
    key_words = [key[0] | key[1] << 32, key[2] | key[3] << 32]
    block, skipped = divmod(first, BLOCK)
    generator = np.random.Philox(
        key=np.array(key_words, np.uint64),
        counter=np.array([block, *stream, 0], np.uint64),
    )
    words_needed = -(-(skipped + count) // 2)
    words = generator.random_raw(words_needed).astype(_WORD, copy=False)
    return words.view(_HALF)[skipped : skipped + count]


def traced_bits(
    key: Sequence[Tensor], stream: tuple[Tensor, Tensor], blocks: Tensor
) -> Tensor:
    """Returns the random int32s of several blocks, of shape `(n, 8)`.

    The key is four integers or int32 scalars, `blocks` an int32 tensor of shape
    `(n,)`, and a stream is named by scalars or tensors of that shape.
    """
    zeros = ops.zeros_like(blocks)
    # NumPy increments the counter before it draws.
    words = [blocks + 1, stream[0] + zeros, stream[1] + zeros, zeros]
    state = [half for word in words for half in (zeros, word)]
    low0, high0, low1, high1 = (_as_int32(half) for half in key)

    def turn(_: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        word0, word1, word2, word3, key0, key1 = _words(state)
        high0, low0 = _multiply(word0, _MULTIPLIERS[0])
        high2, low2 = _multiply(word2, _MULTIPLIERS[1])
        return (
            *_xor(high2, word1, key0),
            *low2,
            *_xor(high0, word3, key1),
            *low0,
            *_add(key0, _KEY_STEPS[0]),
            *_add(key1, _KEY_STEPS[1]),
        )

    # A loop keeps the program small: a round is some 200 operations.
    state = ops.fori_loop(0, _ROUNDS, turn, (*state, high0, low0, high1, low1))
    words = _words(state[:BLOCK])
    return ops.stack([half for word in words for half in word[::-1]], axis=-1)


def _words(halves: Sequence[Tensor]) -> list[Word]:
    return list(zip(halves[::2], halves[1::2], strict=True))


def _multiply(word: Word, multiplier: int) -> tuple[Word, Word]:
    """Returns the high and the low word of a 128-bit product."""
    high, low = word
    top, bottom = multiplier >> 32, multiplier & 0xFFFFFFFF
    parts_high, parts_low = _split(high), _split(low)
    crossed = low * _signed(top), high * _signed(bottom)
    second, carried = _sum_with_carries(
        _high_product(parts_low, bottom), *crossed
    )
    third, last_carried = _sum_with_carries(
        _high_product(parts_low, top),
        _high_product(parts_high, bottom),
        high * _signed(top),
        carried,
    )
    fourth = _high_product(parts_high, top) + last_carried
    return (fourth, third), (second, low * _signed(bottom))


def _high_product(parts: Word, factor: int) -> Tensor:
    """Returns the upper half of the 64-bit product of two 32-bit integers."""
    high, low = parts
    top, bottom = factor >> 16, factor & 0xFFFF
    middle = high * bottom + _split(low * bottom)[0]
    carried, rest = _split(middle)
    return high * top + carried + _split(low * top + rest)[0]


def _split(half: Tensor) -> Word:
    """Returns the upper and lower 16 bits of int32s, as unsigned numbers."""
    upper = ops.bitwise_and(ops.right_shift(half, 16), 0xFFFF)
    return upper, ops.bitwise_and(half, 0xFFFF)


def _sum_with_carries(first: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the sum of unsigned 32-bit integers, and its carry."""
    total, carried = first, 0
    for other in others:
        total = total + other
        # Read as unsigned, a sum below what was added has wrapped around.
        wrapped = _flip_sign(total) < _flip_sign(other)
        carried = carried + ops.cast(wrapped, "int32")
    return total, carried


def _flip_sign(half: Tensor) -> Tensor:
    return ops.bitwise_xor(half, -(2**31))


def _add(word: Word, step: int) -> Word:
    high, low = word
    low, carried = _sum_with_carries(low, _as_int32(step & 0xFFFFFFFF))
    return high + _as_int32(step >> 32) + carried, low


def _xor(*words: Word) -> Word:
    high, low = words[0]
    for word in words[1:]:
        high = ops.bitwise_xor(high, word[0])
        low = ops.bitwise_xor(low, word[1])
    return high, low


def _as_int32(half: Tensor) -> Tensor:
    half = _signed(half) if isinstance(half, int) else half
    return ops.cast(half, "int32")


def _signed(half: int) -> int:
    """Returns the int32 with the same bits."""
    return (half ^ 2**31) - 2**31
