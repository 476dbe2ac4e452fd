"""The arms of the CIFAR-10 study: where a run's initial weights come from."""

import contextlib
import functools
from typing import Literal, NamedTuple

import keras
import numpy as np

from keras_parewire import (
    Sinusoidal,
    StrengthStabilized,
    reinitialize,
    rewire_model,
    strength_variance,
    strengths,
)

STABILIZED_CANDIDATES = 100


class Arm(NamedTuple):
    """How a run's weights are made from the draw of the base.

    Attributes:
        sinusoidal: Whether `Sinusoidal` takes the place of every kernel.
        stabilized: Whether each kernel is the best of several candidates.
        exponent: Exponent of the rewiring, or None for no rewiring.
        rewired: Which kernels are rewired.
        centered: Whether each kernel is centered at the end, see `center`.
        rank: 1 for the lowest strength variances among many draws of the whole
            network, -1 for the highest, None for the draw of the run's seed.
    """

    sinusoidal: bool = False
    stabilized: bool = False
    exponent: float | None = None
    rewired: Literal["all", "first", "last", "others"] = "all"
    centered: bool = False
    rank: int | None = None


ARMS = {
    "base": Arm(),
    "pa": Arm(exponent=1.0),
    "shuffled": Arm(exponent=0.0),
    "greedy": Arm(exponent=float("inf")),
    "centered": Arm(centered=True),
    "pa_centered": Arm(exponent=1.0, centered=True),
    "pa_first": Arm(exponent=1.0, rewired="first"),
    "pa_last": Arm(exponent=1.0, rewired="last"),
    "pa_others": Arm(exponent=1.0, rewired="others"),
    "stabilized": Arm(stabilized=True),
    "pa_stabilized": Arm(exponent=1.0, stabilized=True),
    "sinusoidal": Arm(sinusoidal=True),
    "pa_sinusoidal": Arm(exponent=1.0, sinusoidal=True),
    "lowest": Arm(rank=1),
    "highest": Arm(rank=-1),
}


class InitialWeights:
    """Gives a network the weights of one run after another.

    Args:
        network: A built model.
        candidates: How many draws of the whole network `lowest` and `highest`
            choose from.
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
        if how.sinusoidal:
            assign_sinusoidal(self.network)
        kernels = kernel_layers(self.network)
        if how.exponent is not None:
            rewire_model(
                self.network,
                exponent=how.exponent,
                layers={
                    "all": kernels,
                    "first": kernels[:1],
                    "last": kernels[-1:],
                    "others": kernels[1:-1],
                }[how.rewired],
                seed=draw,
                verbose=0,
            )
        if how.centered:
            for layer in kernels:
                layer.kernel.assign(center(layer.kernel))
        return draw

    @contextlib.contextmanager
    def _stabilized(self):
        # The first candidate is the draw of the base, so the arm stays paired.
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
        """The seeds of the candidates, lowest strength variance first."""
        variances = []
        progress = keras.utils.Progbar(self.candidates, unit_name="candidate")
        for draw in range(self.candidates):
            reinitialize(self.network, seed=draw)
            variances.append(strength_moments(self.network)[0])
            progress.add(1)
        return np.argsort(variances, kind="stable").tolist()


def kernel_layers(network):
    """Returns the layers whose kernels are rewired, from input to output.

    Depthwise kernels are not among them: each of their channels has one output.
    """
    kinds = keras.layers.Dense, keras.layers.Conv2D
    return [layer for layer in network.layers if isinstance(layer, kinds)]


def center(kernel):
    """Subtracts row and column means, and restores the standard deviation.

    All strengths are then 0, up to rounding, and little else changes: with `n`
    inputs and `m` outputs, the means account for a share of about
    `1 / n + 1 / m` of the kernel's variance.
    """
    kernel = keras.ops.convert_to_numpy(kernel).astype("float64")
    matrix = kernel.reshape(-1, kernel.shape[-1])
    centered = matrix - matrix.mean(axis=0)
    centered -= centered.mean(axis=1, keepdims=True)
    return (centered * (matrix.std() / centered.std())).reshape(kernel.shape)


def assign_sinusoidal(network):
    """Replaces every kernel, depthwise ones included, as the authors do."""
    for layer in kernel_layers(network):
        layer.kernel.assign(Sinusoidal()(layer.kernel.shape))
    for layer in network.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            # The authors treat it as a grouped convolution with one input
            # channel.
            initializer = Sinusoidal(input_axes=[0, 1], output_axes=[2, 3])
            layer.kernel.assign(initializer(layer.kernel.shape))


def strength_moments(network):
    """Returns the mean strength variance and excess kurtosis of all kernels."""
    variances, kurtoses = [], []
    for layer in kernel_layers(network):
        variances.append(strength_variance(layer.kernel))
        for side in strengths(layer.kernel):
            deviations = side - side.mean()
            spread = np.mean(deviations**2)
            # Strengths that are equal up to rounding have no kurtosis.
            if spread > 1e-9:
                kurtoses.append(np.mean(deviations**4) / spread**2 - 3)
    kurtosis = np.mean(kurtoses) if kurtoses else np.nan
    return float(np.mean(variances)), float(kurtosis)
