"""Signs that the weights of a model have been trained."""

import random
import warnings
from typing import Any

import keras
import numpy as np

from keras_parewire.models.kernels import ClassifiedWeight
from keras_parewire.models.recreation import NewWeight, recreate
from keras_parewire.models.weights import OwnedWeight
from keras_parewire.rewiring.values import known_values


def warn_if_trained(
    classified: list[ClassifiedWeight], stacklevel: int
) -> None:
    """Warns if weights that start from a constant differ from it."""
    changed = changed_weights(classified)
    if changed:
        warnings.warn(
            f"The weights of `model` seem to have been trained: {len(changed)} "
            "of its biases and normalization weights, such as "
            f"{changed[0]!r}, differ from their initial values. Rewiring keeps "
            "the values of the kernels but undoes what they have learned.",
            stacklevel=stacklevel + 1,
        )


def changed_weights(classified: list[ClassifiedWeight]) -> list[str]:
    """Lists the paths of weights that differ from a constant start."""
    kernels = {id(i.weight.layer) for i in classified if i.view is not None}
    recreated: dict[int, dict[int, NewWeight]] = {}
    changed = []
    for item in classified:
        weight, layer = item.weight, item.weight.layer
        quantized = getattr(layer, "quantization_mode", None)
        if (
            not item.selected
            or item.view is not None
            or quantized
            or weight.is_measured
        ):
            continue
        initializer = _initializer(weight)
        if initializer is not None:
            start = _constant(weight, initializer)
        elif len(weight.shape) == 1 and id(layer) not in kernels:
            # Only its code says how it starts: see what a new one starts from.
            if id(layer) not in recreated:
                recreated[id(layer)] = _recreated(weight)
            start = _recreated_constant(weight, recreated[id(layer)])
        else:
            continue
        if start is not None and not np.array_equal(start, weight.values()):
            changed.append(weight.variable.path)
    return changed


def foreign_weights(classified: list[ClassifiedWeight]) -> list[str]:
    """Lists the paths of weights that their initializers have not drawn.

    These were loaded, copied or rewired after the model was built. A weight
    whose layer names no initializer for it may be missing.
    """
    paths = changed_weights(classified)
    for item in classified:
        weight = item.weight
        initializer = _initializer(weight)
        if initializer is None or weight.is_quantized or len(weight.shape) < 2:
            continue
        drawn = _drawn(weight, initializer)
        if drawn is None or _are_proportional(drawn, weight.values()):
            continue
        again = _drawn(weight, initializer)
        # Some never draw the same again.
        if again is not None and np.array_equal(drawn, again):
            paths.append(weight.variable.path)
    return list(dict.fromkeys(paths))


def _drawn(weight: OwnedWeight, initializer: Any) -> np.ndarray | None:
    """Draws a weight again; None if the initializer is for another one."""
    try:
        drawn = known_values(initializer(weight.shape, weight.dtype))
    except (TypeError, ValueError):
        return None
    return drawn if drawn.shape == weight.shape else None


def _are_proportional(drawn: np.ndarray, values: np.ndarray) -> bool:
    # A layer may know a kernel's fan better than the initializer, which then
    # scales what it draws.
    one, other = drawn.astype(np.float64), values.astype(np.float64)
    length = np.linalg.norm(other)
    scale = length / max(np.linalg.norm(one), np.finfo(float).tiny)
    return bool(np.linalg.norm(one * scale - other) <= 0.01 * length)


def _initializer(weight: OwnedWeight) -> Any:
    """Returns the initializer that an attribute of the layer names, if any."""
    names = (f"{name}_initializer" for name in weight.names)
    found = (getattr(weight.layer, name, None) for name in names)
    return next((x for x in found if x is not None), None)


def _constant(weight: OwnedWeight, initializer: Any) -> np.ndarray | None:
    constants = keras.initializers
    if not isinstance(
        initializer, constants.Zeros | constants.Ones | constants.Constant
    ) or getattr(weight.layer, "unit_forget_bias", False):
        return None
    return known_values(initializer(weight.shape, weight.dtype))


def _recreated(weight: OwnedWeight) -> dict[int, NewWeight]:
    state = random.getstate()  # A layer's code may draw from it.
    try:
        # Not those that hold it, which may be large.
        return recreate(weight.chain[:1], 0)
    except ValueError:
        return {}
    finally:
        random.setstate(state)


def _recreated_constant(
    weight: OwnedWeight, recreated: dict[int, NewWeight]
) -> np.ndarray | None:
    if id(weight.variable) not in recreated:
        return None
    values = recreated[id(weight.variable)].values
    constant = values.size > 1 and (values == values.flat[0]).all()
    return values if constant else None
