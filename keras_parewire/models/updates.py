"""Changes of a model: whether training would be lost, and new values.

All variables get new values, or none does.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import Variable, ops

from keras_parewire.models.kernels import Survey
from keras_parewire.models.weights import instances_in
from keras_parewire.rewiring.values import Tensor, known_values

# A variable and its new values.
Update: TypeAlias = tuple[Variable, Tensor]


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


def warn_if_trained(survey: Survey, stacklevel: int) -> None:
    """Warns if weights differ from the constant that they start from."""
    constants = keras.initializers
    changed = []
    for item in survey.weights:
        weight = item.weight
        if not item.selected or item.view is not None or weight.is_adapted:
            continue
        start = weight.initializer
        if isinstance(
            start, constants.Zeros | constants.Ones | constants.Constant
        ):
            values = known_values(start(weight.shape, weight.dtype))
            if not np.array_equal(values, known_values(weight.variable)):
                changed.append(weight.variable.path)
    if changed:
        warnings.warn(
            f"The weights of `model` seem to have been trained: {len(changed)} "
            "of its biases and normalization weights, such as "
            f"{changed[0]!r}, differ from their initial values. Rewiring keeps "
            "the values of the kernels but undoes what they have learned.",
            stacklevel=stacklevel + 1,
        )


def assign_all(updates: Iterable[Update]) -> None:
    """Assigns new values to variables: to all of them or to none.

    An iterator may compute an update from those that were made before it.
    """
    done: list[Update] = []
    try:
        for variable, values in updates:
            done.append((variable, _snapshot(variable)))
            variable.assign(_placed(variable, values))
    except BaseException:
        for variable, values in done:
            variable.assign(values)
        raise


def _placed(variable: Variable, values: Tensor) -> Tensor:
    """Returns new values on the devices of a variable.

    Under a distribution, a process then holds only its own shards.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return values
    layout = distribution.get_variable_layout(variable)
    return keras.distribution.distribute_tensor(values, layout)


def _snapshot(variable: Variable) -> Tensor:
    """Returns a variable's values, which stay what they are."""
    if keras.backend.backend() == "jax":
        # Its tensors never change; those on several hosts stay there.
        return variable.value
    # A copy, since PyTorch's arrays share the variable's memory.
    return np.array(known_values(variable))


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
    """Lists the weights that an optimizer was built for, in their order."""
    # Not all that train now: it may serve several models.
    own = set(map(id, optimizer.variables))
    held = instances_in(vars(optimizer).values(), Variable)
    return [variable for variable in held if id(variable) not in own]


def _without_rates(
    optimizer: keras.optimizers.Optimizer,
) -> list[Variable]:
    return [v for v in optimizer.variables if v.name != "learning_rate"]
