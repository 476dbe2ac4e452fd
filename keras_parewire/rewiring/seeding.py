"""Seeds: what they may be, and the streams of random numbers made from them."""

import contextlib
import enum
import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.ops_engine import LEAST_EXACT_EXPONENT
from keras_parewire.rewiring.validation import (
    Tensor,
    as_integer,
    concrete_values,
)

Seed: TypeAlias = int | keras.random.SeedGenerator | None

NextNoise: TypeAlias = Callable[[tuple[int, int]], Tensor]

# Keeps our streams apart from all that others make from the same seed: a base
# drawn with the same integer would otherwise be correlated with its rewiring.
_SALT = 0x70617265


class Stream(enum.IntEnum):
    """What the random numbers of one weight of a model are for."""

    REWIRING = 0
    BASE = 1
    REINITIALIZATION = 2


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
    """Derives a seed from Python's random state, which stays as it is.

    Two calls return the same seed unless something is drawn in between.
    """
    digest = hashlib.sha256(repr(random.getstate()).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def integer_seed(seed: Seed) -> int:
    """Returns the integer that seeds the next operation on concrete values."""
    number = fresh_seed() if seed is None else concrete_seed(seed)
    if number is None:
        raise ValueError(
            "The state of `seed` must be known here, but it is being traced. "
            f"Received: seed={seed}"
        )
    return number


@contextlib.contextmanager
def keep_random_state() -> Iterator[None]:
    """Undoes what the block takes from Python's global random numbers."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def concrete_seed(seed: int | keras.random.SeedGenerator) -> int | None:
    """Returns the integer for the next draw, or None while it is traced."""
    if isinstance(seed, int):
        return seed
    state = concrete_values(seed.next())
    return None if state is None else derive_seed(*state.tolist())


def noise_stream(seed: int, exponent: float) -> NextNoise:
    """Returns a function that draws the noise of `ops_engine.py`.

    The noise comes from NumPy, so that it is the same on every backend,
    compiled or not, and however it is cut into shapes. Two samples are equal
    with probability 2e-8: 45 pairs in a row of 65,536, one in 100 rows of
    1,024. Such a pair is ordered by its columns.
    """
    generator = np.random.Generator(np.random.PCG64(_sequence(seed)))
    power = _noise_power(exponent)

    def next_noise(shape: tuple[int, int]) -> np.ndarray:
        # Drawn in float64, since small float32 samples are coarse.
        noise = generator.standard_exponential(shape).astype(np.float32)
        return noise if power == 1.0 else noise**power

    return next_noise


def traced_noise_stream(
    seed: keras.random.SeedGenerator, exponent: float
) -> NextNoise:
    """As `noise_stream`, for a seed whose state is being traced."""
    power = _noise_power(exponent)

    def next_noise(shape: tuple[int, int]) -> Tensor:
        uniform = keras.random.uniform(shape, dtype="float32", seed=seed)
        return (-ops.log(1.0 - uniform)) ** power

    return next_noise


def _noise_power(exponent: float) -> float:
    return 1.0 / exponent if exponent >= LEAST_EXACT_EXPONENT else 1.0


def _sequence(seed: int, *path: int) -> np.random.SeedSequence:
    # NumPy does not take negative numbers.
    return np.random.SeedSequence([_SALT, seed % 2**64, *path])
