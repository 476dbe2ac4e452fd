"""Sparse and single-value kernels: pools for Lookahead Permutation."""

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_parewire.models.weights import (
    assign_all,
    check_no_steps,
    kernel_plan,
)
from keras_parewire.rewiring.seeding import Seed, check_seed, integer_seed

# What a weight's own seed is for, beside those of `models.py` and
# `reinitialization.py`.
_MASK = 3


def random_prune(
    model: Any, keep: float, *, seed: Seed, first_layer_keep: float = 0.8
) -> None:
    """Sets random weights of every kernel of a built model to zero.

    Each weight is kept with probability `keep`, independently of all others;
    biases and normalization weights all are. Nothing holds the zeros: training
    moves them. But where `LookaheadPermutation` takes its pools after this,
    each sync brings them back, as many in each neuron, in other places.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> random_prune(model, 0.3, seed=0, first_layer_keep=0.3)
    >>> print(f"{keras.ops.mean(model.layers[0].kernel != 0.0):.1f}")
    0.3

    Args:
        model: Built Keras model or layer; it is changed in place. Which weights
            are kernels is told in `rewire_model`.
        keep: Number above 0, up to 1: the probability to keep a weight. The
            authors' "30 % pruned" is `keep=0.7`.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a new
            draw; see `rewire_model`. With the same integer the same places are
            pruned on every backend.
        first_layer_keep: The least probability for the first kernel among the
            model's weights, mostly the one that sees the data. Defaults to 0.8.

    Raises:
        ValueError: If the model has not been built or its optimizer has
            already made a step, a kernel holds NaN or infinite weights, or an
            argument is out of range. Nothing has changed then.
        TypeError: If an argument is of the wrong type.

    Reference:

    - [Qiu and Suda, 2020](https://arxiv.org/abs/2003.02570)
    """
    keep = _check_probability(keep, "keep")
    first = max(keep, _check_probability(first_layer_keep, "first_layer_keep"))
    _mask_kernels(model, [first], keep, seed, lambda values: values)


def share_value(model: Any, value: float, keep: float, *, seed: Seed) -> None:
    """Sets every weight of every kernel to one value, or to zero.

    Each weight becomes `value` with probability `keep`, independently of all
    others. Trained by `LookaheadPermutation`, the model can only choose which
    of its equal connections go where. Biases and normalization weights stay:
    the authors' models have none.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> share_value(model, 0.08, 0.6, seed=0)
    >>> print(f"{keras.ops.max(model.layers[0].kernel):.2f}")
    0.08

    Args:
        model: Built Keras model or layer; it is changed in place. Which weights
            are kernels is told in `rewire_model`.
        value: The only value but zero: a number that is finite, and not 0, in
            the kernels' dtype.
        keep: Number above 0, up to 1: the probability of `value`.
        seed: As that of `random_prune`.

    Raises:
        ValueError: If the model has not been built or its optimizer has
            already made a step, a kernel holds NaN or infinite weights, or an
            argument is out of range. Nothing has changed then.
        TypeError: If an argument is of the wrong type.

    Reference:

    - [Qiu and Suda, 2020](https://arxiv.org/abs/2003.02570)
    """
    value = _check_number(value, "value")
    keep = _check_probability(keep, "keep")

    def fill(values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            filled = np.asarray(value).astype(values.dtype)
        if not np.isfinite(filled) or not filled:
            raise ValueError(
                "`value` must be finite and not 0 in the kernels' dtype. "
                f"Received: value={value} for dtype={values.dtype}"
            )
        return filled

    _mask_kernels(model, [], keep, seed, fill)


def _mask_kernels(
    model: Any,
    first_keeps: list[float],
    keep: float,
    seed: Seed,
    fill: Callable[[np.ndarray], Any],
) -> None:
    number = integer_seed(check_seed(seed))
    plan = kernel_plan(model, None, per_gate=False)
    check_no_steps(model)
    kernels = [weight for weight, layout in plan if not isinstance(layout, str)]
    keeps = first_keeps + [keep] * len(kernels)
    updates = []
    for weight, probability in zip(kernels, keeps, strict=False):
        values = weight.values()
        # NumPy's, so that it is the same on every backend.
        bits = np.random.PCG64(weight.seed(number, _MASK))
        mask = np.random.Generator(bits).random(values.shape) < probability
        kept = np.where(mask, fill(values), 0).astype(values.dtype)
        updates.append((weight.variable, kept))
    # Not before all is computed, so that an error leaves the model as it was.
    assign_all(updates)


def _check_number(number: Any, name: str) -> float:
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(
            f"`{name}` must be a number. Received: {name}={number!r}"
        )
    return float(number)


def _check_probability(number: Any, name: str) -> float:
    checked = _check_number(number, name)
    if not 0 < checked <= 1:
        raise ValueError(
            f"`{name}` must be above 0 and at most 1. Received: {name}={number}"
        )
    return checked
