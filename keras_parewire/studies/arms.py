"""The arms of a study: what is done to a new model before training."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

import keras

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
    # Files are named after arms, and some file systems ignore case.
    if len({str(name).casefold() for name in arms}) < len(arms):
        raise ValueError(
            "The names of arms must differ in more than upper and lower case. "
            f"Received: arms={list(arms)}"
        )
    for name, arm in arms.items():
        if not isinstance(name, str) or not 0 < len(quoted(name)) < (
            _LONGEST_NAME
        ):
            raise ValueError(
                "The name of an arm must be a short string that is not empty. "
                f"Received: name={name!r}"
            )
        if arm is not None:
            check_function(f"arms[{name!r}]", arm, "model", seed="seed")
    return dict(arms)


def check_function(name: str, function: Any, *args: str, **kwargs: str) -> None:
    """Checks that a function can be called with these arguments."""
    try:
        if isinstance(function, keras.layers.Layer):
            raise TypeError("it is a model, not a function that makes one")
        inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        call = ", ".join([*args, *(f"{k}={v}" for k, v in kwargs.items())])
        raise TypeError(
            f"`{name}` must be a function that is called as `f({call})`. "
            f"Received: {function!r}, for which {error}"
        ) from error


def quoted(name: str) -> str:
    """Returns an arm's name in a form that any file system accepts."""
    return quote(name, safe="")
