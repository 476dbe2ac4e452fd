"""The arms of the CIFAR-10 study: what is done to a network's new weights."""

import functools

import keras
import numpy as np

from keras_parewire import (
    Sinusoidal,
    reinitialize,
    rewire_model,
    strength_variance,
    strengths,
)


def make_arms(candidates):
    """Returns all arms by name, as `keras_parewire.studies.Study` takes them.

    Args:
        candidates: How many draws of the whole network `lowest` and `highest`
            choose from.
    """
    ranked = functools.partial(pick_draw, candidates=candidates)
    return {
        "base": None,
        "pa": rewire_model,
        "shuffled": functools.partial(rewire_model, exponent=0.0),
        "greedy": functools.partial(rewire_model, exponent=float("inf")),
        "centered": center_kernels,
        "pa_centered": functools.partial(in_turn, rewire, center_kernels),
        "pa_first": functools.partial(rewire, which="first"),
        "pa_last": functools.partial(rewire, which="last"),
        "pa_others": functools.partial(rewire, which="others"),
        "sinusoidal": assign_sinusoidal,
        "pa_sinusoidal": functools.partial(in_turn, assign_sinusoidal, rewire),
        "lowest": functools.partial(ranked, sign=1),
        "highest": functools.partial(ranked, sign=-1),
    }


def in_turn(first, second, network, seed):
    """Applies two arms one after the other."""
    first(network, seed=seed)
    second(network, seed=seed)


def rewire(network, seed, which="all"):
    """Rewires all kernels, the first, the last or the others."""
    kernels = kernel_layers(network)
    layers = {
        "all": kernels,
        "first": kernels[:1],
        "last": kernels[-1:],
        "others": kernels[1:-1],
    }[which]
    rewire_model(network, layers=layers, seed=seed, verbose=0)


def center_kernels(network, seed):
    """Centers every kernel, see `center`."""
    for layer in kernel_layers(network):
        layer.kernel.assign(center(layer.kernel))


def center(kernel):
    """Subtracts row and column means, and restores the standard deviation.

    All strengths are then 0, up to rounding, and little else changes: with `n`
    inputs and `m` outputs, the means account for a share of about
    `1 / n + 1 / m` of the kernel's variance.
    """
    kernel = keras.ops.convert_to_numpy(kernel).astype("float64")
    matrix = kernel.reshape(-1, kernel.shape[-1])
    centered = matrix - matrix.mean(axis=0)
    centered = centered - centered.mean(axis=1, keepdims=True)
    return (centered * (matrix.std() / centered.std())).reshape(kernel.shape)


def assign_sinusoidal(network, seed):
    """Replaces every kernel, depthwise ones included, as the authors do."""
    for layer in kernel_layers(network):
        layer.kernel.assign(Sinusoidal()(layer.kernel.shape))
    for layer in network.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            # The authors treat it as a grouped convolution with one input
            # channel.
            initializer = Sinusoidal(input_axes=[0, 1], output_axes=[2, 3])
            layer.kernel.assign(initializer(layer.kernel.shape))


def pick_draw(network, seed, candidates, sign):
    """Draws the network anew, with a rank instead of a seed.

    Args:
        network: A built model.
        seed: The rank, from 0 for the lowest strength variance.
        candidates: How many draws of the whole network there are.
        sign: 1, or -1 for ranks from the highest strength variance.
    """
    if not 0 <= seed < candidates:
        raise ValueError(
            "The seeds of the arms `lowest` and `highest` count the "
            "candidates from 0, and must be below their number, "
            f"{candidates}. Received: seed={seed}"
        )
    reinitialize(network, seed=rank_draws(network, candidates)[::sign][seed])


@functools.lru_cache(maxsize=1)
def rank_draws(network, candidates):
    """Returns the seeds of the candidates, lowest strength variance first."""
    variances = []
    progress = keras.utils.Progbar(candidates, unit_name="candidate")
    for draw in range(candidates):
        reinitialize(network, seed=draw)
        variances.append(strength_moments(network)[0])
        progress.add(1)
    return np.argsort(variances, kind="stable").tolist()


def kernel_layers(network):
    """Returns the layers whose kernels are rewired, from input to output.

    Depthwise kernels are not among them: each of their channels has one output.
    """
    kinds = keras.layers.Dense, keras.layers.Conv2D
    return [layer for layer in network.layers if isinstance(layer, kinds)]


def strength_moments(network):
    """Returns the mean strength variance and excess kurtosis of all kernels.

    Strengths that are equal up to rounding have no kurtosis; it is 0 if all
    are.
    """
    variances, kurtoses = [], []
    for layer in kernel_layers(network):
        variances.append(strength_variance(layer.kernel))
        for side in strengths(layer.kernel):
            deviations = side - side.mean()
            spread = np.mean(deviations**2)
            if spread > 1e-9:
                kurtoses.append(np.mean(deviations**4) / spread**2 - 3)
    return float(np.mean(variances)), float(np.mean(kurtoses or [0.0]))
