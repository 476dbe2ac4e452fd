"""Centering: a matrix without the means of its rows and columns.

All strengths are then 0. The same operations run in NumPy and in `keras.ops`,
in an order of sums that is the same everywhere, so that a compiled program
gives the same bits.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.matrix_view import MatrixView
from keras_parewire.rewiring.values import Tensor, finite_values

# Below this part of the sum of squares, what remains is rounding.
_ROUNDING = 1e-9


def center_kernel(kernel: Tensor, view: MatrixView) -> Tensor:
    """Centers each matrix of a kernel and restores its standard deviation.

    A matrix with a single row or column, or one that is a constant or any other
    sum of a row and a column, has nothing left, and stays as it is. Returns an
    array for an array, and a tensor for a tensor.
    """
    if getattr(kernel, "is_meta", False) or min(view.stack_shape[1:]) == 1:
        return kernel
    values = finite_values(kernel)
    dtype = keras.backend.standardize_dtype(kernel.dtype)
    wide = "float64" if dtype == "float64" else "float32"
    if values is None:
        stack = view.to_stack(ops.cast(kernel, wide), ops)
        return ops.cast(view.to_kernel(_centered(stack, ops), ops), dtype)
    stack = view.to_stack(values.astype(wide), np)
    centered = view.to_kernel(_centered(stack, np), np)
    if isinstance(kernel, np.ndarray):
        return centered.astype(kernel.dtype)
    return ops.cast(ops.convert_to_tensor(centered), dtype)


def _centered(stack: Tensor, xp: Any) -> Tensor:
    row_means = _mean(xp.transpose(stack, (2, 0, 1)), xp)
    rest = stack - row_means[:, :, None]
    rest = rest - _mean(xp.transpose(rest, (1, 0, 2)), xp)[:, None, :]
    means = _mean(xp.transpose(row_means), xp)
    before = _squares(stack - means[:, None, None], xp)
    after = _squares(rest, xp)
    remains = after > _ROUNDING * before
    scale = _root(before / xp.where(remains, after, before + 1))
    scaled = rest * scale[:, None, None]
    return xp.where(remains[:, None, None], scaled, stack)


def _root(squares: Tensor) -> Tensor:
    """Returns square roots by Heron's rule, whose operations are all exact."""
    # Not every backend rounds its square root correctly. From 1, these steps
    # suffice for any number up to the inverse of `_ROUNDING`.
    root = squares * 0 + 1.0
    for _ in range(20):
        root = (root + squares / root) * 0.5
    return root


def _squares(stack: Tensor, xp: Any) -> Tensor:
    """Returns the sum of squares of each matrix."""
    flat = xp.transpose(xp.reshape(stack, (stack.shape[0], -1)))
    return _sum(_exact(flat * flat, xp), xp)


def _mean(rows: Tensor, xp: Any) -> Tensor:
    """Returns the mean over axis 0."""
    # Compilers replace a division by a constant by this product.
    inverse = 1 / rows.shape[0]
    if keras.backend.standardize_dtype(rows.dtype) == "float32":
        inverse = float(np.float32(inverse))
    return _exact(_sum(rows, xp) * inverse, xp)


def _sum(rows: Tensor, xp: Any) -> Tensor:
    """Sums over axis 0 by halves: every backend has an order of its own."""
    count, odd = rows.shape[0], None
    while count > 1:
        half = count // 2
        if count % 2:
            last = rows[count - 1]
            odd = last if odd is None else _exact(odd + last, xp)
        rows = _exact(rows[:half] + rows[half : 2 * half], xp)
        count = half
    return rows[0] if odd is None else _exact(rows[0] + odd, xp)


def _exact(values: Tensor, xp: Any) -> Tensor:
    """Keeps compilers from fusing a product with a sum, or sorting sums."""
    if xp is np:
        return values
    return ops.maximum(values, float(np.finfo("float32").min))
