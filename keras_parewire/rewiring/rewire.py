"""Rewiring of a single kernel: public function and choice of engine."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_parewire.rewiring import host_engine, traced_engine
from keras_parewire.rewiring.matrix_view import Axes, MatrixView, matrix_view
from keras_parewire.rewiring.noise import host_noise, traced_noise
from keras_parewire.rewiring.seeding import Seed, check_seed, noise_key
from keras_parewire.rewiring.validation import check_exponent, check_float
from keras_parewire.rewiring.values import (
    Tensor,
    as_tensor,
    check_finite,
    values_or_none,
)


def rewire(
    kernel: Tensor,
    *,
    exponent: float = 1.0,
    input_axes: Axes = None,
    output_axes: Axes = None,
    seed: Seed = None,
) -> Tensor:
    """Rewires a kernel by preferential attachment (PA).

    The kernel keeps its values, bit for bit; they only change places, so that
    the strengths of its neurons vary less. See `PARewired` for the rule. No
    gradient flows through a rewiring: it is meant for initial weights.

    Example:

    >>> kernel = keras.random.normal((64, 32), seed=0)
    >>> rewired = rewire(kernel, seed=0)
    >>> strength_variance(kernel) > 5 * strength_variance(rewired)
    True

    Args:
        kernel: Floating-point tensor, array or variable of rank 2 or more,
            `(..., in, out)` unless axes are given.
        exponent: Number, 0 or more; see `PARewired`. Defaults to 1.
        input_axes: List of integers, the axes that number the input neurons.
        output_axes: List of integers, the axes that number the output neurons.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a new
            draw. The same integer gives the same result on every backend.

    Returns:
        A new tensor of the shape and dtype that Keras gives the kernel: on JAX,
        a float64 array becomes float32 unless JAX is configured otherwise.

    Raises:
        ValueError: If the kernel's rank is below 2, its dtype is not floating
            point, it has NaN or infinite weights, the axes are not a partition
            of its axes, or another argument is out of range.
        TypeError: If an argument is of the wrong type.

    Reference:

    - [Scabini et al., 2024](https://arxiv.org/abs/2207.08148), Neurocomputing
    """
    exponent = check_exponent(exponent)
    seed = check_seed(seed)
    kernel = as_tensor(kernel, "kernel")
    check_float(kernel.dtype)
    view = matrix_view(kernel.shape, input_axes, output_axes)
    if 0 in view.kernel_shape:
        return kernel
    values = values_or_none(kernel)
    if values is None:
        return rewire_kernel(kernel, view, exponent, noise_key(seed))
    check_finite(values)
    return ops.convert_to_tensor(
        rewire_kernel(values, view, exponent, noise_key(seed)), kernel.dtype
    )


def rewire_kernel(
    kernel: Tensor | np.ndarray,
    view: MatrixView,
    exponent: float,
    key: Sequence[Any],
) -> Tensor | np.ndarray:
    """Chooses the engine and rewires each group of a kernel.

    NumPy rewires arrays, which must be finite, into arrays. `keras.ops` rewires
    tensors that are being traced, and everything if the `key` of the noise is
    being traced.
    """
    if getattr(kernel, "is_meta", False):
        return kernel  # PyTorch's placeholders have no values to rearrange.
    if isinstance(kernel, np.ndarray) and all(
        isinstance(part, int) for part in key
    ):
        return host_rewire(kernel, view, exponent, key)
    return _traced_rewire(ops.convert_to_tensor(kernel), view, exponent, key)


def host_rewire(
    values: np.ndarray, view: MatrixView, exponent: float, key: Sequence[int]
) -> np.ndarray:
    """Rewires each group of an array, which must be finite."""
    # One name throughout, so that no copy of a large kernel outlives its use.
    values = view.to_stack(values, np)
    values = _stacked(
        [
            host_engine.rewire_matrix(
                matrix, host_noise(key, exponent, group), exponent
            )
            for group, matrix in enumerate(values)
        ],
        np,
    )
    rewired: np.ndarray = view.to_kernel(values, np)
    return rewired


def _traced_rewire(
    kernel: Tensor, view: MatrixView, exponent: float, key: Sequence[Tensor]
) -> Tensor:
    # No backend can find a gradient of the rewired bits. Stop gradients here,
    # or some would leak through the rows that stay in place.
    stack = view.to_stack(ops.stop_gradient(kernel), ops)
    rewired = [
        traced_engine.rewire_matrix(
            stack[group], traced_noise(key, exponent, group), exponent
        )
        for group in range(view.stack_shape[0])
    ]
    return view.to_kernel(_stacked(rewired, ops), ops)


def _stacked(matrices: list[Any], xp: Any) -> Any:
    # Most kernels are a single matrix, which needs no copy.
    if len(matrices) == 1:
        return xp.expand_dims(matrices[0], 0)
    return xp.stack(matrices)
