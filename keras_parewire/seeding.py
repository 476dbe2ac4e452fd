"""Seeds: what they may be, and the streams of randomness made from them."""

import contextlib
import operator
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_parewire.kernels import Tensor

Seed: TypeAlias = int | keras.random.SeedGenerator | None

Draw = Callable[[tuple[int, int]], Tensor]

# Keeps our streams apart from all that others make from the same seed: a base
# drawn with the same integer would otherwise be correlated with its rewiring.
_SALT = 0x70617265


def check_seed(seed: Any) -> Seed:
    """Returns `seed` as Keras takes it: `None`, `int` or `SeedGenerator`."""
    if isinstance(seed, dict):
        seed = keras.saving.deserialize_keras_object(seed)
    if seed is None or isinstance(seed, keras.random.SeedGenerator):
        return seed
    try:
        return operator.index(seed)
    except TypeError as error:
        raise TypeError(
            "`seed` must be an integer, a `keras.random.SeedGenerator` or "
            f"None. Received: seed={seed!r} of type {type(seed).__name__}"
        ) from error


def derive_seed(seed: int, *path: int) -> int:
    """A seed for the stream that `path` names, independent of all others."""
    return int(_sequence(seed, *path).generate_state(1)[0] >> 1)


@contextlib.contextmanager
def keep_random_state() -> Iterator[None]:
    """Undoes what the block takes from Python's global random numbers.

    Keras draws the seed of an unseeded initializer there, when it is made.
    """
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def concrete_seed(seed: int | keras.random.SeedGenerator) -> int | None:
    """Returns the integer to seed the next draw, or None while it is traced."""
    if isinstance(seed, int):
        return seed
    try:
        state = ops.convert_to_numpy(seed.next())
    except (TypeError, NotImplementedError):
        return None
    return derive_seed(*state.tolist())


def model_seed(seed: Seed) -> int:
    """Returns the integer that seeds all weights of a model."""
    if seed is None:
        # As Keras seeds an unseeded initializer.
        return random.randint(1, 10**9)
    number = concrete_seed(seed)
    if number is None:
        raise ValueError(
            "The seed of a model must have a value; this one is being traced. "
            f"Received: seed={seed}"
        )
    return number


def host_noise(seed: int, exponent: float) -> Draw:
    """Returns a function that draws the noise of `rule.py`, shape after shape.

    It comes from NumPy, so that it is the same on every backend, compiled or
    not. How it is cut into shapes does not matter. Two samples are equal with
    probability 2e-8: 45 pairs in a row of 65,536, one in 100 rows of 1,024.
    Such a pair is ordered by its columns.
    """
    generator = np.random.Generator(np.random.PCG64(_sequence(seed)))
    power = 1.0 / max(exponent, 1.0)

    def draw(shape: tuple[int, int]) -> np.ndarray:
        # Drawn in float64, since small float32 samples are coarse.
        noise = generator.standard_exponential(shape).astype(np.float32)
        return noise if power == 1.0 else noise**power

    return draw


def traced_noise(seed: keras.random.SeedGenerator, exponent: float) -> Draw:
    """As `host_noise`, for a seed that has no value yet."""
    power = 1.0 / max(exponent, 1.0)

    def draw(shape: tuple[int, int]) -> Tensor:
        uniform = keras.random.uniform(shape, dtype="float32", seed=seed)
        return (-ops.log(1.0 - uniform)) ** power

    return draw


def _sequence(seed: int, *path: int) -> np.random.SeedSequence:
    # NumPy takes no negative numbers.
    return np.random.SeedSequence([_SALT, seed % 2**64, *path])
