"""Seeds: what they may be, and the streams of randomness made from them."""

import contextlib
import operator
import random
from collections.abc import Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_parewire.kernels import Tensor

Seed: TypeAlias = int | keras.random.SeedGenerator | None

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


class Noise:
    """The noise of `rule.py`, drawn shape after shape.

    With an integer seed it comes from NumPy, so that it is the same on every
    backend, compiled or not. A `SeedGenerator` may be a traced value; its noise
    comes from `keras.random`.

    Args:
        seed: An `int` or a `keras.random.SeedGenerator`.
        exponent: The exponent of the attachment probability.
    """

    def __init__(self, seed: int | keras.random.SeedGenerator, exponent: float):
        self._seed = seed
        self._power = 1.0 / max(exponent, 1.0)
        if isinstance(seed, int):
            self._generator = np.random.Generator(
                np.random.PCG64(_sequence(seed))
            )

    def draw(self, shape: tuple[int, int]) -> Tensor:
        """Returns float32 noise: an array, or with a generator a tensor."""
        if isinstance(self._seed, int):
            # Drawn in float64, since float32 samples tie more often.
            noise = self._generator.standard_exponential(shape)
            noise = noise.astype(np.float32)
        else:
            uniform = keras.random.uniform(
                shape, dtype="float32", seed=self._seed
            )
            noise = -ops.log(1.0 - uniform)
        return noise if self._power == 1.0 else noise**self._power


def _sequence(seed: int, *path: int) -> np.random.SeedSequence:
    # NumPy takes no negative numbers; Keras does.
    return np.random.SeedSequence([_SALT, seed % 2**64, *path])
