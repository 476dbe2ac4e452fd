"""The optimizers of a model: whether they have trained, and their new state."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import Variable, ops

from keras_parewire.models.kernels import Survey
from keras_parewire.models.weights import Update, instances_in
from keras_parewire.rewiring.values import known_values


def steps_of(optimizer: keras.optimizers.Optimizer) -> int:
    """Returns how many steps an optimizer has taken."""
    return int(ops.convert_to_numpy(optimizer.iterations))


def check_no_steps(survey: Survey) -> None:
    """Checks that no optimizer has taken a step, which would be lost."""
    steps = sum(map(steps_of, survey.optimizers))
    if steps:
        raise ValueError(
            "The weights of `model` must not have been trained, since it would "
            "lose what it has learned. To train it from new weights, first "
            "call `reinitialize` on all of it; to change the trained weights "
            "nevertheless, compile it again. Received: "
            f"model={survey.model.name!r} after {steps} optimizer steps"
        )


def updates_that_reset(
    survey: Survey, *, keep_trained: bool = False
) -> Iterator[Update]:
    """Yields the updates that make the optimizers new but for learning rates.

    A schedule-free optimizer keeps copies of the weights and returns to them in
    its first step, so ask for them after the weights have changed.
    """
    for optimizer in survey.optimizers:
        if optimizer.built and not (keep_trained and steps_of(optimizer)):
            yield from _updates(optimizer)


def _updates(optimizer: keras.optimizers.Optimizer) -> Iterator[Update]:
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        # The function that chooses them may return others in another `build`.
        yield optimizer.iterations, np.array(0)
        for each in optimizer.optimizers:
            if each.built:
                yield from _updates(each)
        return
    old = _without_rates(optimizer)
    try:
        unbuilt = _unbuilt(optimizer)
        unbuilt.build(_trained_by(optimizer))
        new = _without_rates(unbuilt)
        if [tuple(v.shape) for v in old] != [tuple(v.shape) for v in new]:
            raise ValueError(f"{len(new)} of {len(old)} variables are made")
    except Exception as error:
        raise ValueError(
            "An optimizer of `model` must make its variables in its `build`. "
            f"Received: optimizer {optimizer.name!r} of type "
            f"{type(optimizer).__name__}, of which in another `build` {error}"
        ) from error
    for variable, value in zip(old, new, strict=True):
        yield variable, known_values(value)


def _unbuilt(value: Any) -> Any:
    """Returns a copy of what an optimizer holds, or of it, without variables.

    The config of an optimizer may not tell how it was made, and it has none if
    its learning rate is a function.
    """
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not isinstance(v, Variable)}
        return {key: _unbuilt(each) for key, each in kept.items()}
    if isinstance(value, list):
        return [_unbuilt(v) for v in value if not isinstance(v, Variable)]
    if not isinstance(value, keras.optimizers.Optimizer):
        return value
    kind: Any = type(value)
    new = kind.__new__(kind)
    keras.optimizers.Optimizer.__init__(new, 0.0, name=value.name)
    # Not by `setattr`, which tracks variables.
    attributes = vars(new)
    made = {name for name in attributes if name.startswith("_")} | {"built"}
    for name, each in vars(value).items():
        if name not in made and not isinstance(each, Variable):
            attributes[name] = _unbuilt(each)
    return new


def _trained_by(optimizer: keras.optimizers.Optimizer) -> list[Variable]:
    """Lists the weights that an optimizer was built for, in their order.

    They need not be all that train in a layer now: it may have been built for
    layers of several models, or before one was frozen.
    """
    own = set(map(id, optimizer.variables))
    held = instances_in(vars(optimizer).values(), Variable)
    return [variable for variable in held if id(variable) not in own]


def _without_rates(
    optimizer: keras.optimizers.Optimizer,
) -> list[Variable]:
    return [v for v in optimizer.variables if v.name != "learning_rate"]
