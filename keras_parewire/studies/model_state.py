"""What a run may change in a model besides its weights."""

import collections
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_parewire.models.optimizers import learning_rates_of, optimizers_of
from keras_parewire.models.weights import (
    Update,
    held_by,
    owned_weights,
    walk,
)
from keras_parewire.rewiring.seeding import derive_seed

# Attributes in which Keras notes what a model does. These two matter later, and
# are put back.
_MODES = ("stop_training", "training")
_NOTES = (
    *_MODES,
    "history",
    "predict_function",
    "stop_evaluating",
    "stop_predicting",
    "test_function",
    "train_function",
)


# Values that are equal if they are the same.
_PLAIN = (bool, int, float, str, bytes)


def kept_variables(model: Any) -> list[Any]:
    """Lists the variables that a run may change and that nothing draws anew.

    They are the states of stateful layers, what `adapt` measures, and the
    learning rates of optimizers.
    """
    variables = [*model.variables, *held_by(model, keras.Variable)]
    for optimizer in optimizers_of(model):
        variables += learning_rates_of(optimizer)
    drawn = {
        id(weight.variable)
        for weight in owned_weights(model)
        if not weight.is_measured
    }
    by_id = {id(variable): variable for variable in variables}
    return [v for key, v in by_id.items() if key not in drawn]


def random_states(model: Any, seed: int) -> Iterator[Update]:
    """Yields the updates that seed a model's random layers, such as dropout."""
    generators = held_by(model, keras.random.SeedGenerator)
    for number, generator in enumerate(generators):
        # All backends have this range, if not the same type.
        start = derive_seed(seed, number) % 2**31
        yield generator.state, np.array([start, 0])


def modes(model: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Returns each layer with those of its attributes that are put back."""
    return [
        (layer, {k: v for k, v in vars(layer).items() if k in _MODES})
        for layer in walk(model)
    ]


def attributes(model: Any) -> dict[tuple[int, str], Any]:
    """Returns the attributes that may change what training does."""
    found = {}
    for layer, name, value in _own_attributes(model):
        # Those in which Keras notes something in private are no numbers.
        counts = not name.startswith("_") or type(value) in (int, float)
        if counts and name not in _NOTES:
            found[id(layer), f"{layer.name}.{name}"] = _content(value)
    for optimizer in optimizers_of(model):
        for name, value in optimizer.get_config().items():
            found[id(optimizer), f"{optimizer.name}.{name}"] = repr(value)
    for weight in model.weights:
        found[id(weight), f"{weight.path}.trainable"] = weight.trainable
    return found


def put_back(model: Any, before: Mapping[tuple[int, str], Any]) -> None:
    """Puts attributes back that are plain values, such as `trainable`.

    Compiled functions may contain others by now. So this is only for a run that
    was stopped before it compiled any.
    """
    for layer, name, value in _own_attributes(model):
        start = before.get((id(layer), f"{layer.name}.{name}"), value)
        # What tells of others whether they have changed is another type.
        plain = isinstance(start, _PLAIN) and type(start) is type(value)
        if plain and start != value:
            setattr(layer, name, start)


def _own_attributes(model: Any) -> Iterator[tuple[Any, str, Any]]:
    """Yields each layer with the name and the value of each attribute."""
    for layer in walk(model):
        own = {**vars(layer), "trainable": layer.trainable}
        for name, value in own.items():
            yield layer, name, value


def differing(
    before: Mapping[tuple[int, str], Any], after: Mapping[tuple[int, str], Any]
) -> list[str]:
    """Lists the names of the attributes that are not the same."""
    # Code finds False where an attribute is missing, as by `getattr`.
    return [
        key[1]
        for key in {**before, **after}
        if not _is_same(before.get(key, False), after.get(key, False))
    ]


def _content(value: Any) -> Any:
    """Returns what tells whether a value has been changed in place."""
    if isinstance(value, Mapping):
        return (*value.keys(), *value.values())
    if isinstance(value, list | tuple | set | collections.deque):
        return tuple(value)
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    return value


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return isinstance(one, _PLAIN) and bool(one == other)
