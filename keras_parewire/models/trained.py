"""Signs that the weights of a model have been trained."""

import warnings

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
    recreated: dict[int, dict[int, NewWeight]] = {}
    kernels = {id(i.weight.layer) for i in classified if i.view is not None}
    changed = []
    for item in classified:
        weight = item.weight
        quantized = getattr(weight.layer, "quantization_mode", None)
        if not item.selected or item.view is not None or quantized:
            continue
        start = _start_by_attribute(weight)
        if start is None and id(weight.layer) not in kernels:
            if id(weight.layer) not in recreated:
                recreated[id(weight.layer)] = _recreated(weight)
            start = _start_by_recreation(weight, recreated[id(weight.layer)])
        if start is not None and not np.array_equal(start, weight.values()):
            changed.append(weight.variable.path)
    if changed:
        warnings.warn(
            f"The weights of `model` seem to have been trained: {len(changed)} "
            "of its biases and normalization weights, such as "
            f"{changed[0]!r}, differ from their initial values. Rewiring keeps "
            "the values of the kernels but undoes what they have learned.",
            stacklevel=stacklevel + 1,
        )


def _start_by_attribute(weight: OwnedWeight) -> np.ndarray | None:
    """Returns the constant that the layer's attributes name, if they do."""
    layer, initializers = weight.layer, keras.initializers
    if getattr(layer, "unit_forget_bias", False):
        return None
    for name in weight.names:
        initializer = getattr(layer, f"{name}_initializer", None)
        if isinstance(
            initializer,
            initializers.Zeros | initializers.Ones | initializers.Constant,
        ):
            return known_values(initializer(weight.shape, weight.dtype))
    return None


def _recreated(weight: OwnedWeight) -> dict[int, NewWeight]:
    try:
        # Not those that hold it, which may be large.
        return recreate(weight.chain[:1], 0)
    except ValueError:
        return {}


def _start_by_recreation(
    weight: OwnedWeight, recreated: dict[int, NewWeight]
) -> np.ndarray | None:
    """Returns the constant that a new layer of the kind starts from, if any."""
    if id(weight.variable) not in recreated:
        return None
    values = recreated[id(weight.variable)].values
    constant = values.size > 1 and (values == values.flat[0]).all()
    return values if constant else None
