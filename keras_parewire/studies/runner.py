"""Single runs: one model, built and compiled once, trained again and again."""

import functools
import inspect
import itertools
import math
import numbers
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_parewire.models.optimizers import new_state
from keras_parewire.models.weights import assign_all, check_model
from keras_parewire.rewiring.seeding import derive_seed
from keras_parewire.studies.arms import Arm, initialize
from keras_parewire.studies.environment import (
    count_threads,
    find_environment,
    find_flags,
)

# Keeps the random numbers of training apart from those of the weights.
_TRAINING = 0x747261696E
# What Keras appends to the names of layers and metrics.
_NUMBER = re.compile("_[0-9]+")


class Outcome(NamedTuple):
    """The outcome of one run.

    Attributes:
        metrics: The numbers that training returned; None if it failed.
        error: Why it failed, or None.
        seconds: How long training took.
        threads: How many threads the backend used for one operation.
        flags: Environment variables that change how it computes.
    """

    metrics: dict[str, float] | None
    error: str | None
    seconds: float
    threads: int = 0
    flags: str = ""


class Runner:
    """The model of one process.

    Args:
        make_model: Function that returns a built model.
        train: Function `(model, seed)` that trains a model.
        arms: The arms by name.
    """

    def __init__(
        self,
        make_model: Callable[[], Any],
        train: Callable[[Any, int], Any],
        arms: Mapping[str, Arm],
    ) -> None:
        self._make_model, self._train, self._arms = make_model, train, arms
        self._build()
        self.environment: dict[str, str] = find_environment(self.model)

    def _build(self) -> None:
        # Every process builds the same model, with the same seeds in it.
        keras.utils.set_random_seed(0)
        model = self._make_model()
        if not isinstance(model, keras.Model):
            raise TypeError(
                "`make_model` must return a Keras model. "
                f"Received: {model!r} of type {type(model).__name__}"
            )
        check_model(model)
        self.model = model
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        # What `reinitialize` keeps: the states of random layers and the
        # optimizer's learning rate.
        weights = {id(variable) for variable in model.weights}
        state = [v for v in model.variables if id(v) not in weights]
        if optimizer is not None:
            state += optimizer.variables
        self._state = [
            (variable, np.array(ops.convert_to_numpy(variable)))
            for variable in state
        ]

    def run(self, arm: str, seed: int) -> Outcome:
        """Trains the model from the weights of one arm and one seed."""
        training_seed = derive_seed(seed, _TRAINING)
        keras.utils.set_random_seed(training_seed)
        initialize(self.model, self._arms[arm], seed)
        assign_all((*self._state, *new_state(self.model)))
        compiled = _compilation(self.model)
        keras.utils.set_random_seed(training_seed)
        start = time.perf_counter()
        error, result = None, None
        with _reseeded_fits(self.model, seed):
            try:
                result = self._train(self.model, seed)
            except Exception as raised:
                error = f"{type(raised).__name__}: {raised}"
        seconds = round(time.perf_counter() - start, 3)
        if any(
            one is not other
            for one, other in zip(
                compiled, _compilation(self.model), strict=True
            )
        ):
            raise RuntimeError(
                "A model must be compiled once, in `make_model`, not in "
                f"`train`. Received: model={self.model.name!r}, compiled while "
                f"it was trained for the arm {arm!r}, seed={seed}"
            )
        machine = count_threads(), find_flags()
        if error is not None:
            # On JAX, Keras takes a model's variables away during `fit` and
            # `evaluate`, and may not return them after an exception.
            self._build()
            return Outcome(None, error, seconds, *machine)
        metrics = check_metrics(result)
        bad = {k: v for k, v in metrics.items() if not math.isfinite(v)}
        if bad:
            listed = ", ".join(f"{name} is {v}" for name, v in bad.items())
            return Outcome(None, f"Not finite: {listed}", seconds, *machine)
        return Outcome(metrics, None, seconds, *machine)


def check_metrics(result: Any) -> dict[str, float]:
    """Returns the result of training as a dict of floats."""
    if (
        not isinstance(result, Mapping)
        or not result
        or not all(isinstance(name, str) and name for name in result)
        or not all(
            isinstance(value, numbers.Real) and not isinstance(value, bool)
            for value in result.values()
        )
    ):
        raise TypeError(
            "`train` must return a dict from names to numbers (`float(x)` "
            f"makes one of a tensor). Received: {result!r}"
        )
    return {name: float(value) for name, value in result.items()}


def with_known_names(
    metrics: Mapping[str, float], known: Collection[str]
) -> dict[str, float]:
    """Returns metrics by known names if only numbers in their names differ.

    Keras numbers the layers, and the metrics without a name of their own, of
    all models of a process: what is `auc` in the first one is `auc_1` in the
    next, which a study builds after a run that failed.
    """
    new, old = (sorted(names, key=_natural_key) for names in (metrics, known))
    if [_NUMBER.sub("", name) for name in new] != [
        _NUMBER.sub("", name) for name in old
    ]:
        return dict(metrics)
    by_known = dict(zip(old, new, strict=True))
    return {name: metrics[by_known[name]] for name in known}


def _natural_key(name: str) -> list[str | int]:
    """Returns a key by which `auc_9` comes before `auc_10`."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if part.isdecimal() else part for part in parts]


def _compilation(model: Any) -> tuple[Any, Any]:
    """Returns objects that `compile` replaces with new ones."""
    if not getattr(model, "compiled", False):
        return None, None
    return model.optimizer, next(iter(model.metrics), None)


@contextmanager
def _reseeded_fits(model: Any, seed: int) -> Iterator[None]:
    """Makes the first `fit` of a process draw the same as all others.

    The first `fit` looks at a batch to build the metrics, which advances the
    random numbers that order the examples.
    """
    fit = model.fit
    signature = inspect.signature(fit)
    calls = itertools.count()

    @functools.wraps(fit)
    def reseeded(*args: Any, **kwargs: Any) -> Any:
        number = derive_seed(seed, _TRAINING, 1 + next(calls))
        reseed = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: keras.utils.set_random_seed(number)
        )
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments.get("callbacks")
        if isinstance(given, keras.callbacks.CallbackList):
            given.callbacks.insert(0, reseed)
        else:
            if isinstance(given, keras.callbacks.Callback):
                given = [given]
            bound.arguments["callbacks"] = [reseed, *(given or [])]
        return fit(*bound.args, **bound.kwargs)

    if "callbacks" not in signature.parameters:
        yield
        return
    model.fit = reseeded
    try:
        yield
    finally:
        del model.fit
