"""Checks of arguments that need no values."""

import math
import numbers
import operator
from typing import Any

import keras


def check_float(dtype: Any) -> None:
    """Raises if a dtype is not floating point."""
    dtype = keras.backend.standardize_dtype(dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            "The dtype of a kernel must be floating point. "
            f"Received: dtype={dtype}"
        )


def check_number(value: Any, name: str) -> float:
    """Returns a real number as a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be a number. Received: {name}={value!r}"
        )
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(
            f"`{name}` must fit into a float. Received: {name}={value}"
        ) from error


def check_positive(value: Any, name: str) -> float:
    """Returns a number above 0 as a float."""
    number = check_number(value, name)
    if not 0 < number < math.inf:
        raise ValueError(
            f"`{name}` must be positive and finite. Received: {name}={value!r}"
        )
    return number


def check_exponent(exponent: Any) -> float:
    """Returns `exponent` as a float, 0 or more; configs hold `"inf"`."""
    if isinstance(exponent, str) and exponent == "inf":
        return math.inf
    checked = check_number(exponent, "exponent")
    if not checked >= 0:  # Or it is NaN.
        raise ValueError(
            "`exponent` must be 0 or more; `float('inf')` is allowed. "
            f"Received: exponent={exponent}"
        )
    return checked


def check_count(count: Any, name: str) -> int:
    """Returns `count` as an integer, 1 or more."""
    checked = as_integer(count)
    if checked is None:
        raise TypeError(
            f"`{name}` must be an integer. Received: {name}={count!r}"
        )
    if checked < 1:
        raise ValueError(
            f"`{name}` must be 1 or more. Received: {name}={count}"
        )
    return checked


def as_integer(value: Any) -> int | None:
    """Returns an integer as a Python int, and None for anything else.

    Unlike `operator.index`, it does not accept a bool as a number.
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
