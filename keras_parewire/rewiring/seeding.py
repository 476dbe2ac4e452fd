"""Seeds: what they may be, and the streams of random numbers made from them."""

import hashlib
import random
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.validation import as_integer
from keras_parewire.rewiring.values import Tensor, concrete_values

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
    return int(_sequence(seed, *path).generate_state(1)[0] >> 1)


def fresh_seed() -> int:
    """Draws a seed, as Keras does for an unseeded initializer."""
    return random.randint(1, 10**9)


def seed_without_draw() -> int:
    """Derives a seed from Python's random state without changing that state.

    Two calls return the same seed unless something is drawn in between.
    """
    digest = hashlib.sha256(repr(random.getstate()).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def integer_seed(seed: Seed | Tensor) -> int:
    """Returns the integer that seeds the next operation on concrete values."""
    if seed is None:
        return fresh_seed()
    if isinstance(seed, int):
        return seed
    state = concrete_values(_random_state(seed))
    if state is None:
        raise ValueError(
            "The state of `seed` must be known here, but it is being traced. "
            f"Received: seed={seed}"
        )
    return derive_seed(*state.tolist())


def noise_key(seed: Seed | Tensor, advance: bool = True) -> tuple[Any, ...]:
    """Returns the key of the next rewiring's noise, see `noise.py`.

    The key is four integers below `2**32`; if a generator's state is being
    traced, some of them are int32 scalars with the same bits. Either way, this
    takes one state from a generator, or, if `advance` is False, leaves that
    state to the base, which is about to take it.
    """
    if seed is None:
        seed = fresh_seed()
    if isinstance(seed, int):
        # The lower 64 bits: as many as a generator's state has.
        state = [seed & _WORD, seed >> 32 & _WORD]
    else:
        traced = _random_state(seed, advance)
        values = concrete_values(traced)
        if values is None:
            state = ops.unstack(ops.cast(traced, "int32"), 2)
        else:
            state = [value & _WORD for value in values.tolist()]
    return (*state, _SALT, 0)


def _random_state(seed: Any, advance: bool = True) -> Tensor:
    """Returns two integers from a generator, or from a key of JAX.

    Other libraries set such a key as an initializer's seed.
    """
    if not isinstance(seed, keras.random.SeedGenerator):
        return keras.random.randint((2,), 0, 2**31 - 1, seed=seed)
    return seed.next() if advance else ops.convert_to_tensor(seed.state)


def _sequence(seed: int, *path: int) -> np.random.SeedSequence:
    # NumPy does not take negative numbers.
    return np.random.SeedSequence([_SALT, seed % 2**64, *path])
