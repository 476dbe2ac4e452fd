"""What a run may change in a model besides its weights."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_parewire.models.optimizers import learning_rates_of, optimizers_of
from keras_parewire.models.weights import instances_in, walk

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


def kept_variables(model: Any) -> list[Any]:
    """Lists the variables that a run may change and that nothing draws anew.

    They are the states of random and stateful layers, and the learning rates
    of optimizers.
    """
    variables = [*model.variables]
    for layer in walk(model):
        variables += instances_in(vars(layer).values(), keras.Variable)
    for optimizer in optimizers_of(model):
        variables += learning_rates_of(optimizer)
    weights = {id(variable) for variable in model.weights}
    by_id = {id(variable): variable for variable in variables}
    return [v for key, v in by_id.items() if key not in weights]


def modes(model: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Returns each layer with those of its attributes that are put back."""
    return [
        (layer, {k: v for k, v in vars(layer).items() if k in _MODES})
        for layer in walk(model)
    ]


def attributes(model: Any) -> dict[tuple[int, str], Any]:
    """Returns the attributes that may change what training does."""
    found = {}
    for layer in walk(model):
        own = {**vars(layer), "trainable": layer.trainable}
        for name, value in own.items():
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


def differing(
    before: Mapping[tuple[int, str], Any], after: Mapping[tuple[int, str], Any]
) -> list[str]:
    """Lists the names of the attributes that are not the same."""
    missing = object()
    return [
        key[1]
        for key in {**before, **after}
        if not _is_same(before.get(key, missing), after.get(key, missing))
    ]


def _content(value: Any) -> Any:
    """Returns what tells whether a value has been changed in place."""
    if isinstance(value, Mapping):
        return (*value.keys(), *value.values())
    if isinstance(value, list | tuple | set):
        return tuple(value)
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
    return isinstance(one, bool | int | float | str) and bool(one == other)
