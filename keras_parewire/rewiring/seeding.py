"""Seeds: what they may be, and the streams of random numbers made from them."""

import hashlib
import random
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.validation import as_integer
from keras_parewire.rewiring.values import Tensor, known_values, values_or_none

Seed: TypeAlias = int | keras.random.SeedGenerator | None

# Without it, a base drawn with the same integer seed would be correlated with
# its rewiring.
_SALT = 0x70617265
_WORD = 2**32 - 1


def check_seed(seed: Any) -> Seed:
    """Returns `seed` as Keras takes it: `None`, `int` or `SeedGenerator`."""
    if isinstance(seed, dict) and seed.get("class_name") == "SeedGenerator":
        seed = keras.random.SeedGenerator.from_config(seed["config"])
    if seed is None or isinstance(seed, keras.random.SeedGenerator):
        return seed
    checked = as_integer(seed)
    if checked is None:
        raise TypeError(
            "`seed` must be an integer, a `keras.random.SeedGenerator` or "
            f"None. Received: seed={seed!r} of type {type(seed).__name__}"
        )
    return checked


def derive_seed(seed: int, *path: int) -> int:
    """Derives the seed of the stream that `path` names.

    The streams of different seeds and paths are independent of each other.
    """
    # NumPy does not take negative numbers.
    sequence = np.random.SeedSequence([_SALT, seed % 2**64, *path])
    return int(sequence.generate_state(1)[0] >> 1)


def seed_without_draw() -> int:
    """Derives a seed from Python's random state without changing that state.

    Two calls return the same seed unless something is drawn in between.
    """
    digest = hashlib.sha256(repr(random.getstate()).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def integer_seed(seed: Seed | Tensor) -> int:
    """Returns the integer that seeds the next operation on concrete values.

    None draws one, as Keras does for an unseeded initializer.
    """
    if seed is None:
        return random.randint(1, 10**9)
    if isinstance(seed, int):
        return seed
    return derive_seed(*known_values(_next_state(seed), "seed").tolist())


def noise_key(seed: Seed | Tensor) -> tuple[Any, ...]:
    """Returns the key of the next rewiring's noise, see `noise.py`.

    The key is four integers below `2**32`, some of them int32 scalars if a
    generator's state is traced. This takes one state from a generator.
    """
    if seed is None or isinstance(seed, int):
        return integer_key(integer_seed(seed))
    traced = _next_state(seed)
    values = values_or_none(traced)
    if values is None:
        return (*ops.unstack(ops.cast(traced, "int32"), 2), _SALT, 0)
    return (*(value & _WORD for value in values.tolist()), _SALT, 0)


def integer_key(number: int) -> tuple[int, ...]:
    """Returns the key of the noise for an integer seed."""
    # The lower 64 bits: as many as a generator's state has.
    return (number & _WORD, number >> 32 & _WORD, _SALT, 0)


def noise_key_and_draw(
    generator: keras.random.SeedGenerator, draw: Callable[[], Tensor]
) -> tuple[tuple[Any, ...], Tensor]:
    """Returns the key of the next noise, and a draw from the same state.

    Whatever else shares the generator draws the same as without the rewiring.
    Not everything that takes a generator draws from it, so it moves on by one
    state at least.
    """
    before = ops.copy(generator.state)
    key = noise_key(generator)
    after = ops.copy(generator.state)
    generator.state.assign(before)
    drawn = draw()
    generator.state.assign(ops.maximum(generator.state, after))
    return key, drawn


def _next_state(seed: Any) -> Tensor:
    """Returns two integers from a generator, or from a key of JAX.

    Other libraries set such a key as an initializer's seed.
    """
    if isinstance(seed, keras.random.SeedGenerator):
        return seed.next()
    return keras.random.randint((2,), 0, 2**31 - 1, seed=seed)
