"""Centering: a matrix without the means of its rows and columns."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.matrix_view import MatrixView
from keras_parewire.rewiring.values import Tensor

# A standard deviation below this part of the weights' size is rounding.
_ROUNDING = 3e-5


def center_kernel(
    kernel: Tensor | np.ndarray, view: MatrixView
) -> Tensor | np.ndarray:
    """Centers each matrix of a kernel and restores its standard deviation.

    A matrix with a single row or column, or one that is a constant or any other
    sum of a row and a column, has nothing left, and stays as it is. Returns an
    array for an array, and a tensor for a tensor.
    """
    if min(view.stack_shape[1:]) == 1:
        return kernel
    if isinstance(kernel, np.ndarray):
        stack = view.to_stack(kernel.astype("float64"), np)
        return view.to_kernel(_centered(stack, np), np).astype(kernel.dtype)
    dtype = keras.backend.standardize_dtype(kernel.dtype)
    wide = "float64" if dtype == "float64" else "float32"
    stack = view.to_stack(ops.cast(kernel, wide), ops)
    return ops.cast(view.to_kernel(_centered(stack, ops), ops), dtype)


def _centered(stack: Tensor, xp: Any) -> Tensor:
    row_means = xp.mean(stack, axis=2, keepdims=True)
    rest = stack - row_means
    rest = rest - xp.mean(rest, axis=1, keepdims=True)
    before, after = (
        xp.std(each, axis=(1, 2), keepdims=True) for each in (stack, rest)
    )
    size = before + abs(xp.mean(row_means, axis=1, keepdims=True))
    remains = after > _ROUNDING * size
    scale = before / xp.where(remains, after, xp.ones_like(after))
    return xp.where(remains, rest * scale, stack)
