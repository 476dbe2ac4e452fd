"""The arms of the CIFAR-10 study: where a run's initial weights come from."""

import contextlib
import functools
from typing import NamedTuple

import keras
import numpy as np

from keras_parewire import (
    StrengthStabilized,
    reinitialize,
    rewire_model,
    strength_variance,
    strengths,
)

STABILIZED_CANDIDATES = 100


class Arm(NamedTuple):
    """How the weights of a run come from the base's draw.

    Attributes:
        exponent: Of the rewiring, or None for none.
        stabilized: Whether each kernel is the best of some candidates.
        rank: 1 for the lowest strength variances among whole draws, -1 for the
            highest, None for the draw of the run's own seed.
    """

    exponent: float | None = None
    stabilized: bool = False
    rank: int | None = None


ARMS = {
    "base": Arm(),
    "pa": Arm(exponent=1.0),
    "stabilized": Arm(stabilized=True),
    "stabilized+pa": Arm(exponent=1.0, stabilized=True),
    "shuffled": Arm(exponent=0.0),
    "greedy": Arm(exponent=float("inf")),
    "lowest": Arm(rank=1),
    "highest": Arm(rank=-1),
}


class InitialWeights:
    """Gives a network the weights of one run after another.

    Args:
        network: A built model.
        candidates: How many whole draws the arms of a rank choose from.
    """

    def __init__(self, network, candidates):
        self.network = network
        self.candidates = candidates

    def set_up(self, arm, seed):
        """Gives the network a run's weights; returns the seed of the draw."""
        how = ARMS[arm]
        draw = seed if how.rank is None else self._ranked_draw(how.rank, seed)
        with self._stabilized() if how.stabilized else contextlib.nullcontext():
            reinitialize(self.network, seed=draw)
        if how.exponent is not None:
            rewire_model(
                self.network, exponent=how.exponent, seed=draw, verbose=0
            )
        return draw

    @contextlib.contextmanager
    def _stabilized(self):
        # The first candidate is the base's own draw: the arm stays paired.
        layers = kernel_layers(self.network)
        bases = [layer.kernel_initializer for layer in layers]
        try:
            for layer, base in zip(layers, bases, strict=True):
                layer.kernel_initializer = StrengthStabilized(
                    base, STABILIZED_CANDIDATES
                )
            yield
        finally:
            for layer, base in zip(layers, bases, strict=True):
                layer.kernel_initializer = base

    def _ranked_draw(self, rank, number):
        if not 0 <= number < self.candidates:
            raise ValueError(
                "The seeds of the arms `lowest` and `highest` count the "
                "candidates from 0, and must be below their number, "
                f"{self.candidates}. Received: seed={number}"
            )
        return self.ranking[:: 1 if rank > 0 else -1][number]

    @functools.cached_property
    def ranking(self):
        """The seeds of the candidates, the lowest strength variance first."""
        variances = []
        progress = keras.utils.Progbar(self.candidates, unit_name="candidate")
        for draw in range(self.candidates):
            reinitialize(self.network, seed=draw)
            variances.append(strength_moments(self.network)[0])
            progress.add(1)
        return np.argsort(variances, kind="stable").tolist()


def kernel_layers(network):
    """The layers whose kernels are rewired: not the depthwise ones."""
    kinds = keras.layers.Dense, keras.layers.Conv2D
    return [layer for layer in network.layers if isinstance(layer, kinds)]


def strength_moments(network):
    """The mean strength variance and excess kurtosis over all kernels."""
    variances, kurtoses = [], []
    for layer in kernel_layers(network):
        variances.append(strength_variance(layer.kernel))
        for side in strengths(layer.kernel):
            deviations = side - side.mean()
            spread = np.mean(deviations**2)
            kurtoses.append(np.mean(deviations**4) / spread**2 - 3)
    return float(np.mean(variances)), float(np.mean(kurtoses))
