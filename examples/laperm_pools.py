"""Sparse and single-value initial weights, as Qiu and Suda (2020) train them.

Nothing keeps the zeros during training. But if `LookaheadPermutation` takes its
pools from such a model, each sync restores them: as many for each neuron, in
other places.
"""

import numpy as np
from keras import ops

from keras_parewire import strength_report


def random_prune(model, sparsity, seed, first_sparsity=0.2):
    """Sets random weights of every kernel to zero.

    Args:
        model: Built Keras model, changed in place.
        sparsity: The probability that a weight becomes zero, below 1.
        seed: Integer. The same places are pruned on every backend.
        first_sparsity: The highest sparsity of the first kernel, which sees the
            data.
    """
    _check_share(sparsity, "sparsity")
    _check_share(first_sparsity, "first_sparsity")
    shares = [min(sparsity, first_sparsity)]
    for kernel, zero in _zero_masks(model, sparsity, seed, shares):
        kernel.assign(np.where(zero, 0, ops.convert_to_numpy(kernel)))


def share_value(model, value, sparsity, seed):
    """Sets every weight of every kernel to zero or to one common value.

    Such a model can only learn which of its equal connections go where.

    Args:
        model: Built Keras model, changed in place.
        value: The common value, finite and not zero.
        sparsity: The probability that a weight becomes zero, below 1.
        seed: Integer. The same weights are zero on every backend.
    """
    _check_share(sparsity, "sparsity")
    if not np.isfinite(value) or not value:
        raise ValueError(
            f"`value` must be finite and not zero. Received: value={value}"
        )
    for kernel, zero in _zero_masks(model, sparsity, seed):
        kernel.assign(np.where(zero, 0, value))


def _zero_masks(model, sparsity, seed, first_sparsities=()):
    """Yields every kernel with a mask of the weights to set to zero."""
    rows = strength_report(model)
    kernels = {row.path for row in rows if row.skipped is None}
    generator = np.random.default_rng(seed)  # The same on every backend.
    shares = iter(first_sparsities)
    for variable in model.weights:
        if variable.path in kernels:
            share = next(shares, sparsity)
            yield variable, generator.random(variable.shape) < share


def _check_share(share, name):
    if not 0 <= share < 1:
        raise ValueError(
            f"`{name}` must be 0 or more and below 1. Received: {name}={share}"
        )
