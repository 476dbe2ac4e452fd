"""The arms of a study: what is done to a model's new weights before training.

Also the descriptions, in types that JSON can hold, by which a study recognizes
its arms and its configuration.
"""

import functools
import hashlib
import inspect
import math
import numbers
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

import keras
import numpy as np

from keras_parewire.models.reinitialization import reinitialize
from keras_parewire.models.strength_table import StrengthReport

Arm: TypeAlias = Callable[..., Any] | None

# File systems allow 255 bytes, and the seed and the suffix take some of them.
_LONGEST_NAME = 150


def check_arms(arms: Any) -> dict[str, Arm]:
    """Checks the arms and returns them by name."""
    if not isinstance(arms, Mapping) or not arms:
        raise TypeError(
            "`arms` must be a non-empty dict from names to arms. "
            f"Received: arms={arms!r}"
        )
    for name, arm in arms.items():
        if not isinstance(name, str) or not 0 < len(quoted(name)) < (
            _LONGEST_NAME
        ):
            raise ValueError(
                "The name of an arm must be a short string that is not empty. "
                f"Received: name={name!r}"
            )
        _check_arm(name, arm)
    # Files are named after arms, and some file systems ignore case.
    if len({name.casefold() for name in arms}) < len(arms):
        raise ValueError(
            "The names of arms must differ in more than upper and lower case. "
            f"Received: arms={list(arms)}"
        )
    return dict(arms)


def call_problem(function: Any, *args: Any, **kwargs: Any) -> str:
    """Says why a function cannot be called so; empty if it can."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def initialize(model: Any, arm: Arm, seed: int) -> None:
    """Draws new weights for a model and applies an arm to them."""
    reinitialize(model, seed=seed)
    report = arm(model, seed=seed) if arm is not None else None
    if isinstance(report, StrengthReport) and all(
        row.skipped for row in report
    ):
        raise ValueError(
            "An arm must rewire some of the model's weights. Received: an arm "
            f"for which all are skipped: "
            f"{ {row.path: row.skipped for row in report} }"
        )


def quoted(name: str) -> str:
    """Returns an arm's name in a form that any file system accepts."""
    return quote(name, safe="")


def describe(value: Any, what: str) -> Any:
    """Describes a value in types that JSON can hold.

    Args:
        value: A part of an arm or of a configuration.
        what: The value's name in the error message.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        # JSON has no infinity.
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(k): describe(v, f"{what}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | tuple | range | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [describe(item, what) for item in items]
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value).tobytes()
        digest = hashlib.sha256(content).hexdigest()[:16]
        return f"{value.dtype} array of shape {value.shape}, sha256 {digest}"
    if isinstance(value, keras.layers.Layer):
        return f"layer {value.name}"
    if isinstance(value, functools.partial):
        return {
            "function": describe(value.func, what),
            "arguments": describe([*value.args], what),
            "keywords": describe(value.keywords, what),
        }
    name = getattr(value, "__qualname__", None)
    if name is not None:
        return f"function {name}"
    if hasattr(value, "get_config"):
        config = describe(value.get_config(), what)
        return {"class": type(value).__name__, "config": config}
    raise TypeError(
        "Arms and configurations must consist of numbers, strings, lists, "
        "dicts, arrays, functions and Keras objects. "
        f"Received: {what}={value!r} of type {type(value).__name__}"
    )


def _check_arm(name: str, arm: Any) -> None:
    if arm is None:
        return
    example = "functools.partial(rewire_model, exponent=0)"
    if isinstance(arm, Mapping):
        given = ", ".join(f"{key}={value!r}" for key, value in arm.items())
        example = f"functools.partial(rewire_model, {given})"
    if not callable(arm):
        raise TypeError(
            "An arm must be None or a function that is called as `arm(model, "
            f"seed=seed)`, such as `{example}`. Received: the arm {name!r}="
            f"{arm!r} of type {type(arm).__name__}"
        )
    problem = call_problem(arm, None, seed=0)
    if problem:
        raise TypeError(
            "An arm must be a function that is called as `arm(model, "
            f"seed=seed)`. Received: the arm {name!r}={arm!r}, for which "
            f"{problem}"
        )
    if isinstance(arm, functools.partial) and "seed" in arm.keywords:
        raise ValueError(
            "An arm must take the seed of each run. Received: the arm "
            f"{name!r}={arm!r} with a seed of its own"
        )
