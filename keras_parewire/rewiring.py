"""Rewiring of a given kernel, by whichever engine fits it."""

import math
import numbers
import operator
import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire import host, rule
from keras_parewire.kernels import Layout, Tensor, kernel_layout
from keras_parewire.seeding import (
    Seed,
    check_seed,
    concrete_seed,
    host_noise,
    traced_noise,
)


def rewire(
    kernel: Tensor,
    *,
    exponent: float = 1.0,
    block_size: int = 1,
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
    seed: Seed = None,
) -> Tensor:
    """Rearranges a kernel's weights by preferential attachment (PA).

    The values stay, bit for bit; only their places change, such that the
    neurons' strengths vary less. See `PARewired` for the rule.

    Example:

    >>> kernel = keras.random.normal((64, 32), seed=0)
    >>> rewired = rewire(kernel, seed=0)
    >>> strength_variance(kernel) > 5 * strength_variance(rewired)
    True

    Args:
        kernel: Floating-point tensor, array or variable of rank 2 or more,
            `(..., in, out)` unless axes are given.
        exponent: Number, 0 or more, of the attachment probability. 1 is the
            paper's rule, 0 a shuffle without regard to strength,
            `float("inf")` greedy by strength. Each pass starts from the row it
            finds first, so that the very first weight never moves. Defaults to
            1.
        block_size: Integer, 1 or more. How many neurons are rewired on one
            snapshot of the strengths. Defaults to 1, the paper's rule.
        input_axes: List of integers, the axes that number the input neurons.
        output_axes: List of integers, the axes that number the output neurons.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a new
            draw. The same integer gives the same result on every backend.

    Returns:
        A new tensor of the same shape and dtype; the dtype is that of the
        tensor Keras makes of an array, which on JAX is float32 for float64
        unless JAX is told to enable it.

    Raises:
        ValueError: If the kernel's rank is below 2, its dtype is not floating
            point, it holds NaN or infinite weights, the axes are not a
            partition of its axes, or another argument is out of range.
        TypeError: If an argument is of the wrong type.

    Reference:

    - [Scabini et al., 2022](https://arxiv.org/abs/2207.08148)
    """
    exponent = check_exponent(exponent)
    block_size = check_count(block_size, "block_size")
    seed = check_seed(seed)
    kernel = as_tensor(kernel, "kernel")
    check_float(kernel.dtype)
    layout = kernel_layout(kernel.shape, input_axes, output_axes)
    if seed is None:
        # As Keras seeds an unseeded initializer.
        seed = random.randint(1, 10**9)
    return rewire_kernel(kernel, layout, exponent, block_size, seed)


def rewire_kernel(
    kernel: Tensor,
    layout: Layout,
    exponent: float,
    block_size: int,
    seed: int | keras.random.SeedGenerator,
) -> Tensor:
    """Rewires a tensor read through `layout`, and chooses the engine.

    Values at hand go through NumPy, traced ones through `keras.ops`.
    """
    if getattr(kernel, "is_meta", False):
        return kernel  # PyTorch's placeholders have no values to rearrange.
    values = finite_values(kernel)
    number = concrete_seed(seed)
    if number is None:
        draw = traced_noise(seed, exponent)
    else:
        draw = host_noise(number, exponent)
    if values is not None and number is not None:
        # One name, so that no copy of a large kernel outlives its use.
        values = layout.to_matrix(values, np)
        values = host.rewire_matrix(values, draw, exponent, block_size)
        return ops.convert_to_tensor(
            layout.to_kernel(values, np),
            keras.backend.standardize_dtype(kernel.dtype),
        )
    inputs, outputs = layout.matrix_shape
    shapes = (outputs - 1, inputs), (inputs - 1, outputs)
    noise = [ops.convert_to_tensor(draw(shape), "float32") for shape in shapes]
    matrix = layout.to_matrix(kernel, ops)
    matrix = rule.rewire_matrix(matrix, noise, exponent, block_size)
    return layout.to_kernel(matrix, ops)


def finite_values(tensor: Tensor, name: str = "kernel") -> np.ndarray | None:
    """Returns the values of `tensor`, or None while it is being traced.

    Raises:
        ValueError: If some are NaN or infinite.
    """
    try:
        values: np.ndarray = ops.convert_to_numpy(tensor)
    except (TypeError, NotImplementedError):
        # JAX' and TensorFlow's ways of saying so; Keras has none.
        return None
    check_finite(values, name)
    return values


def as_tensor(values: Any, name: str, dtype: str | None = None) -> Tensor:
    """Returns `values` as a tensor; `name` says what they are."""
    try:
        tensor = ops.convert_to_tensor(values, dtype)
        # TensorFlow has tensors of texts.
        if keras.backend.standardize_dtype(tensor.dtype) == "string":
            raise TypeError("A text is no number.")
        return tensor
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must be a tensor or an array of numbers. "
            f"Received: {name}={values!r}"
        ) from error


def check_finite(values: np.ndarray, name: str = "kernel") -> None:
    """Checks that no weight is NaN or infinite."""
    if not np.isfinite(values).all():
        raise ValueError(
            f"A kernel must hold finite weights. Received: {name} of shape "
            f"{values.shape} with {np.isnan(values).sum()} NaN and "
            f"{np.isinf(values).sum()} infinite weights"
        )


def check_float(dtype: Any) -> None:
    """Checks that a dtype is a floating-point one."""
    dtype = keras.backend.standardize_dtype(dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            "A kernel must be of a floating-point dtype to be rewired. "
            f"Received: dtype={dtype}"
        )


def check_exponent(exponent: Any) -> float:
    """Returns `exponent` as a float, 0 or more."""
    if not isinstance(exponent, numbers.Real):
        raise TypeError(
            f"`exponent` must be a number. Received: exponent={exponent!r}"
        )
    if math.isnan(exponent) or exponent < 0:
        raise ValueError(
            "`exponent` must be 0 or more (`float('inf')` is allowed). "
            f"Received: exponent={exponent}"
        )
    return float(exponent)


def check_count(count: Any, name: str) -> int:
    """Returns `count` as an integer, 1 or more."""
    try:
        checked = operator.index(count)
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be an integer. Received: {name}={count!r}"
        ) from error
    if checked < 1:
        raise ValueError(
            f"`{name}` must be 1 or more. Received: {name}={count}"
        )
    return checked
