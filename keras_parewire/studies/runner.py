"""Single runs: one model, built and compiled once, trained again and again."""

import contextlib
import itertools
import math
import numbers
import operator
import re
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_parewire.models.kernels import classify_weights
from keras_parewire.models.optimizers import new_state
from keras_parewire.models.trained import foreign_weights
from keras_parewire.models.weights import assign_all, check_model, walk
from keras_parewire.rewiring.seeding import derive_seed
from keras_parewire.studies.arms import Arm, initialize
from keras_parewire.studies.environment import (
    count_threads,
    find_environment,
    find_flags,
)
from keras_parewire.studies.model_state import (
    attributes,
    differing,
    kept_variables,
    modes,
    put_back,
    random_states,
)

# Without it, training would draw the same random numbers as the weights.
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
    """The model of one process, which starts every run as it was made.

    Args:
        make_model: Function that returns a built model.
        train: Function `(model, seed)` that trains a model, or with `together`
            `(model, seeds, weights)`.
        arms: The arms by name.
        together: Whether `train` takes several runs at once.
    """

    def __init__(
        self,
        make_model: Callable[[], Any],
        train: Callable[..., Any],
        arms: Mapping[str, Arm],
        together: bool = False,
    ) -> None:
        self._make_model, self._train, self._arms = make_model, train, arms
        self._together = together
        self._warned = self._used = False
        self._build()
        _warn_if_foreign(self.model)
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
        self._unfitted = {
            part for part in walk(model) if isinstance(part, keras.Model)
        }
        self._state = [
            (variable, np.array(ops.convert_to_numpy(variable)))
            for variable in kept_variables(model)
        ]
        self._modes = modes(model)
        self._attributes = attributes(model)

    def run(self, arm: str, seed: int) -> Outcome:
        """Trains the model from the weights of one arm and one seed."""
        [outcome] = self.run_all([(arm, seed)])
        return outcome

    def run_all(self, runs: Sequence[tuple[str, int]]) -> list[Outcome]:
        """Trains one run, or with `together` several."""
        seeds = [seed for _, seed in runs]
        for attempt in itertools.count():
            weights, rebuilt = [], False
            for arm, seed in runs:
                # What a run changed that was stopped is no fault of `train`.
                rebuilt |= self._restore(arm, seed, silent=attempt > 0)
                if self._together:
                    weights.append(self.model.get_weights())
            if attempt and rebuilt:
                self._unfitted.clear()  # Else this would never end.
            error, results = None, []
            stopped: list[Any] = []
            compiled = _compilation(self.model)
            start = time.perf_counter()
            try:
                with _stopped_first_fits(self._unfitted, stopped):
                    if self._together:
                        results = self._train(self.model, seeds, weights)
                    else:
                        results = [self._train(self.model, *seeds)]
            except (_Stopped, Exception) as raised:
                error = f"{type(raised).__name__}: {raised}"
            seconds = round((time.perf_counter() - start) / len(runs), 3)
            if any(map(operator.is_not, compiled, _compilation(self.model))):
                raise RuntimeError(
                    "A model must be compiled once, in `make_model`, not in "
                    f"`train`. Received: model={self.model.name!r}, compiled "
                    f"while it was trained for the arm {arm!r}, seed={seed}"
                )
            if not stopped:
                break
        machine = count_threads(), find_flags()
        if error is not None:
            # On JAX, Keras takes a model's variables away during `fit` and
            # `evaluate`, and may not return them after an exception.
            self._build()
            return [Outcome(None, error, seconds, *machine)] * len(runs)
        if not isinstance(results, list | tuple) or len(results) != len(runs):
            raise TypeError(
                "With `together`, `train` must return a list of dicts, one for "
                f"each of the {len(runs)} runs. Received: {results!r}"
            )
        outcomes = []
        for metrics in map(check_metrics, results):
            bad = {k: v for k, v in metrics.items() if not math.isfinite(v)}
            listed = ", ".join(f"{name} is {v}" for name, v in bad.items())
            outcomes.append(
                Outcome(None, f"Not finite: {listed}", seconds, *machine)
                if bad
                else Outcome(metrics, None, seconds, *machine)
            )
        return outcomes

    def _restore(self, arm: str, seed: int, silent: bool) -> bool:
        """Makes the model as it was made, but for the weights.

        Returns whether it had to be made again: what else has changed may be
        part of compiled functions.
        """
        changed = []
        if self._used:
            assign_all(self._state)
            for layer, values in self._modes:
                vars(layer).update(values)
            self.model.reset_metrics()
            if silent:
                put_back(self.model, self._attributes)
            changed = differing(self._attributes, attributes(self.model))
        if changed:
            if not self._warned and not silent:
                self._warned = True
                warnings.warn(
                    "Training must not change the model besides its weights, "
                    "its optimizer's variables and its random states: to undo "
                    "the change, the model is made again for each run. "
                    f"Received: changed {', '.join(changed)}",
                    stacklevel=2,
                )
            self._build()
        self._used = True
        # Alike for runs that are trained together, whatever they are.
        training_seed = derive_seed(0 if self._together else seed, _TRAINING)
        keras.utils.set_random_seed(training_seed)
        initialize(self.model, self._arms[arm], seed)
        # An optimizer's state may depend on the weights that the arm made, and
        # on the learning rate.
        assign_all(
            itertools.chain(
                self._state,
                random_states(self.model, training_seed),
                new_state(self.model),
            )
        )
        keras.utils.set_random_seed(training_seed)
        return bool(changed)


def _warn_if_foreign(model: keras.Model) -> None:
    foreign = foreign_weights(classify_weights(model))
    if foreign:
        warnings.warn(
            "The weights of `make_model` must be those that its initializers "
            "draw, as each run draws them anew. Load or copy others in "
            f"`train`. Received: model={model.name!r} with {len(foreign)} "
            f"other weights, among them {foreign[0]!r}",
            stacklevel=2,
        )


class _Stopped(BaseException):
    """Ends a run that is to begin again; `except Exception` lets it pass."""


@contextlib.contextmanager
def _stopped_first_fits(models: set[Any], stopped: list[Any]) -> Iterator[None]:
    """Stops the first `fit` or `evaluate` of models before they train.

    There Keras draws a batch to build the metrics, so that the first run of a
    process would see other data than all others.

    Args:
        models: The models that have not been fitted. One that is, is removed.
        stopped: Gets the models that have been stopped.
    """

    def stop(model: Any) -> None:
        models.discard(model)
        stopped.append(model)
        raise _Stopped

    hooked = list(models)
    for model in hooked:
        # Keras calls them when the metrics have been built.
        model.make_train_function = lambda force=False, m=model: stop(m)
        model.make_test_function = model.make_train_function
    try:
        yield
    finally:
        for model in hooked:
            del model.make_train_function, model.make_test_function


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
