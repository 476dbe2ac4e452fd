"""What a study is given, and its single runs, each with its own model."""

import gc
import hashlib
import inspect
import math
import numbers
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

import keras
import numpy as np
from keras import ops

from keras_parewire.models.plain_names import plain_names, with_plain_names
from keras_parewire.models.weights import check_model
from keras_parewire.rewiring.seeding import derive_seed
from keras_parewire.rewiring.validation import as_integer
from keras_parewire.studies.identity import identify

# Without it, training would draw the same random numbers as the weights.
_TRAINING = 0x747261696E
_LONGEST_ERROR = 300
# File systems allow 255 bytes, and the seed and the suffix take some of them.
_LONGEST_NAME = 150

Arm: TypeAlias = Callable[..., Any] | None
# `make_model`, `train` and the arms by name.
Parts: TypeAlias = tuple[
    Callable[[], Any], Callable[[Any, int], Any], Mapping[str, Arm]
]


class Outcome(NamedTuple):
    """The outcome of one run."""

    metrics: dict[str, float] | None  # None if the run failed.
    error: str | None  # Why it failed.
    seconds: float | None = None  # How long training took.
    identity: dict[str, Any] | None = None  # See `identify`.
    start: dict[str, str] | None = None  # Digests of the weights, if wanted.
    exception: Exception | None = None  # What was raised.
    training: bool = True  # Whether training had begun.

    @classmethod
    def of(cls, metrics: dict[str, float]) -> "Outcome":
        """Returns the outcome of a run that ended with these numbers."""
        bad = [k for k, v in metrics.items() if not math.isfinite(v)]
        if bad:
            listed = ", ".join(f"{name} is {metrics[name]}" for name in bad)
            return cls(None, f"Not finite: {listed}")
        return cls(metrics, None)

    @classmethod
    def failed(cls, error: Exception) -> "Outcome":
        """Returns the outcome of a run that raised an exception."""
        text = " ".join(f"{type(error).__name__}: {error}".split())
        if len(text) > _LONGEST_ERROR:
            text = f"{text[: _LONGEST_ERROR - 3]}..."
        return cls(None, text, exception=error)


Runs: TypeAlias = Iterable[tuple[str, Outcome]]


def new_model(make_model: Callable[[], Any], seed: int) -> Any:
    """Makes the model of one seed, and checks that there is one."""
    keras.utils.set_random_seed(seed)
    model = make_model()
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`make_model` must return a Keras model. "
            f"Received: {model!r} of type {type(model).__name__}"
        )
    check_model(model)
    return model


def apply_arm(arm: Arm, model: Any, seed: int) -> None:
    """Applies an arm to a new model, and seeds what training will draw."""
    if arm is not None:
        returned = arm(model, seed=seed)
        if isinstance(returned, keras.Model) and returned is not model:
            raise TypeError(
                "An arm must change the model that it is given. Received: "
                f"another model, {returned.name!r}, from {arm!r}"
            )
    keras.utils.set_random_seed(derive_seed(seed, _TRAINING))


def make_runs(
    parts: Parts, seed: int, arms: Iterable[str], with_start: bool = False
) -> Runs:
    """Makes the runs of one seed, arm by arm; yields each with its outcome."""
    for arm in arms:
        yield arm, (outcome := make_run(parts, seed, arm, with_start))
        # Models hold themselves, and Python may be late to notice. It takes a
        # part of a second, so short runs do not wait for it.
        if (outcome.seconds or 0) > 1:
            gc.collect()


def make_run(parts: Parts, seed: int, arm: str, with_start: bool) -> Outcome:
    """Makes a model, applies an arm and trains; keeps what that raises."""
    make_model, train, arms = parts
    known: dict[str, Any] = {"training": False}
    began = time.perf_counter()
    try:
        model = new_model(make_model, seed)
        known["identity"] = identify(model)
        if with_start:
            known["start"] = _digests(model)
        apply_arm(arms[arm], model, seed)
        known["training"], began = True, time.perf_counter()
        outcome = Outcome.of(named_metrics(train(model, seed), model))
    except Exception as error:
        outcome = Outcome.failed(error)
    seconds = round(time.perf_counter() - began, 3)
    return outcome._replace(seconds=seconds, **known)


def named_metrics(result: Any, model: Any) -> dict[str, float]:
    """Returns the numbers of a model's run without Keras' own numbering."""
    metrics = check_metrics(result)
    if not any(re.search("_[0-9]", name) for name in metrics):
        return metrics  # Which saves a walk over all layers.
    names = plain_names(model)
    plain = {with_plain_names(k, names): v for k, v in metrics.items()}
    return plain if len(plain) == len(metrics) else metrics


def check_metrics(result: Any) -> dict[str, float]:
    """Returns the result of training as a dict of floats."""
    found = result if isinstance(result, Mapping) else {}
    if found and all(
        isinstance(name, str)
        and name
        and isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        for name, value in found.items()
    ):
        return {name: float(value) for name, value in found.items()}
    advice = "`float(x)` makes one of a tensor"
    if any(isinstance(value, list) for value in found.values()):
        advice = (
            "of a history, return the last epoch: `{name: values[-1] for name, "
            "values in history.history.items()}`"
        )
    raise TypeError(
        f"`train` must return a dict from names to numbers ({advice}). "
        f"Received: {str(result)[:_LONGEST_ERROR]}"
    )


def check_arms(arms: Any) -> dict[str, Arm]:
    """Checks the arms and returns them by name."""
    if not isinstance(arms, Mapping) or not arms:
        raise TypeError(
            "`arms` must be a non-empty dict from names to arms. "
            f"Received: arms={arms!r}"
        )
    # Files are named after arms, and some file systems ignore case.
    files = {quote(x, "").casefold() for x in arms if isinstance(x, str)}
    if len([x for x in files if 0 < len(x) < _LONGEST_NAME]) < len(arms):
        raise ValueError(
            "The names of arms must be short strings, and differ in more than "
            f"upper and lower case. Received: arms={list(arms)}"
        )
    for name, arm in arms.items():
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


def check_seeds(seeds: Any) -> list[int]:
    """Returns the seeds as a list of distinct integers that NumPy takes."""
    listed = list(seeds) if isinstance(seeds, Iterable) else [None]
    numbers = [n for seed in listed if (n := as_integer(seed)) is not None]
    if len({n for n in numbers if 0 <= n < 2**32}) < len(listed):
        raise ValueError(
            "`seeds` must be distinct integers, 0 or more and below 2**32, as "
            f"in `range(20)`. Received: seeds={seeds!r}"
        )
    return numbers


def _digests(model: Any) -> dict[str, str]:
    """Digests the trainable weights that are no constants, by plain paths."""
    names, digests = plain_names(model), {}
    for weight in model.trainable_weights:
        values = np.asarray(ops.convert_to_numpy(weight.value))
        if values.size > 1 and (values != values.flat[0]).any():
            path = with_plain_names(weight.path, names)
            digests[path] = hashlib.sha256(values.tobytes()).hexdigest()
    return digests
