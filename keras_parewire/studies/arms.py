"""The arms of a study: what is done to a new model before training."""

import functools
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
        problem = arm is not None and call_problem(arm, None, seed=0)
        if problem:
            given = arm if isinstance(arm, Mapping) else {"exponent": 0}
            keywords = ", ".join(f"{k}={v!r}" for k, v in given.items())
            raise TypeError(
                "An arm must be None or a function that is called as "
                "`arm(model, seed=seed)`, such as "
                f"`functools.partial(rewire_model, {keywords})`. Received: "
                f"the arm {name!r}={arm!r}, for which {problem}"
            )
        if isinstance(arm, functools.partial) and "seed" in arm.keywords:
            raise ValueError(
                "An arm must take the seed of each run. Received: the arm "
                f"{name!r}={arm!r} with a seed of its own"
            )
    return dict(arms)


def check_function(name: str, function: Any, *takes: str) -> None:
    """Checks that a function can be called with these arguments."""
    problem = call_problem(function, *takes)
    if isinstance(function, keras.layers.Layer):
        problem = "it is a model, not a function that makes one"
    if problem:
        raise TypeError(
            f"`{name}` must be a function that is called as "
            f"`{name}({', '.join(takes)})`. "
            f"Received: {name}={function!r}, for which {problem}"
        )


def call_problem(function: Any, *args: Any, **kwargs: Any) -> str:
    """Says why a function cannot be called so; empty if it can."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def quoted(name: str) -> str:
    """Returns an arm's name in a form that any file system accepts."""
    return quote(name, safe="")
