"""Sorting of floats by their bits, for NumPy arrays and backend tensors.

Read as integers, floats keep every bit: `-0.0` and `0.0` differ, whereas
NumPy's vectorized sort of floats may turn one into the other. XLA also sorts
integers several times faster than floats. Floats are stored as sign and
magnitude, so the integers of negative ones run backwards; mirroring those puts
the integers in the order of the floats.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring.values import Tensor


def host_sorted(rows: np.ndarray) -> np.ndarray:
    """Returns an array with its rows sorted by the bits of their values."""
    keys = float_keys(rows)
    keys.sort(axis=1)
    return keyed_floats(keys, rows.dtype)


def float_keys(values: np.ndarray) -> np.ndarray:
    """Returns a new array of integers in the order of the floats."""
    bits = values.view(f"i{values.itemsize}").copy()
    _mirror_in_place(bits)
    return bits


def keyed_floats(keys: np.ndarray, dtype: Any) -> np.ndarray:
    """Undoes `float_keys`, in place."""
    _mirror_in_place(keys)
    return keys.view(dtype)


def _mirror_in_place(bits: np.ndarray) -> None:
    flip = bits >> (8 * bits.itemsize - 1)  # 0, or -1 for a negative number.
    flip &= np.iinfo(bits.dtype).max
    bits ^= flip


def traced_sorted(rows: Tensor) -> Tensor:
    """Sorts the rows of a float32 or float64 tensor, as `host_sorted` does."""
    dtype = keras.backend.standardize_dtype(rows.dtype)
    bits = ops.view(rows, "int64" if dtype == "float64" else "int32")
    bits = ops.sort(_mirror(bits), axis=1)
    return ops.view(_mirror(bits), dtype)


def _mirror(bits: Tensor) -> Tensor:
    magnitude = 2**63 - 1 if "int64" in str(bits.dtype) else 2**31 - 1
    return ops.where(bits < 0, ops.bitwise_xor(bits, magnitude), bits)


def traced_argsort(clocks: Tensor) -> Tensor:
    """Returns the stable order of non-negative float32 numbers in each row.

    XLA sorts integers four times faster than pairs of a number and its index.
    On JAX, this function therefore finds the order in two digits: non-negative
    floats sort like their bits, and each digit is sorted as part of an integer
    whose lower bits hold the column it came from.
    """
    others = clocks.shape[-1]
    column_bits = (others - 1).bit_length()
    if keras.backend.backend() != "jax" or column_bits > 15:
        return ops.argsort(clocks, axis=-1)
    digit_bits = 31 - column_bits
    columns = ops.arange(others, dtype="int32")

    def order(digits: Tensor) -> Tensor:
        keys = ops.bitwise_or(ops.left_shift(digits, column_bits), columns)
        return ops.bitwise_and(ops.sort(keys, axis=-1), 2**column_bits - 1)

    bits = ops.view(clocks, "int32")
    low = order(ops.bitwise_and(bits, 2**digit_bits - 1))
    high = ops.take_along_axis(ops.right_shift(bits, digit_bits), low, axis=-1)
    return ops.take_along_axis(low, order(high), axis=-1)
