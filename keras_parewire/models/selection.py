"""The `layers` argument of the model functions: which weights it selects."""

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

from keras_parewire.models.weights import OwnedWeight, walk

Selection: TypeAlias = (
    Callable[[keras.layers.Layer], bool]
    | Sequence[keras.layers.Layer | str]
    | keras.layers.Layer
    | str
    | None
)

# Whether a weight is selected, and whether `layers` names it or its own layer.
Selector: TypeAlias = Callable[[OwnedWeight], tuple[bool, bool]]


def selector(
    model: keras.Model | keras.layers.Layer, layers: Selection
) -> Selector:
    """Returns a function that checks whether a weight is selected.

    That function returns a pair: whether the weight is selected, and whether
    `layers` names it or its own layer, as an object or by its exact name,
    rather than along with others.

    Args:
        model: The model that contains the layers.
        layers: None for all layers, a function of the layer that owns the
            weight, or a list of layers and patterns. A pattern is a regular
            expression that must match the whole name of a layer or the whole
            path of a weight, as in `keras.distribution.LayoutMap`.
    """
    if layers is None:
        return lambda weight: (True, False)
    if callable(layers) and not isinstance(layers, keras.layers.Layer | type):
        function = layers
        return lambda weight: (bool(function(weight.layer)), False)
    if isinstance(layers, str | keras.layers.Layer):
        layers = [layers]
    inside = list(walk(model))
    named = [(layer, layer.name) for layer in inside[1:]]
    named += [(variable, variable.path) for variable in model.weights]
    by_themselves: set[int] = set()
    selected: set[int] = set()
    for item in _as_items(layers):
        if isinstance(item, str):
            exact = {id(owner) for owner, name in named if name == item}
            hits = exact or _matching(item, named)
        else:
            exact = hits = {id(layer) for layer in inside if layer is item}
        if not hits:
            raise ValueError(
                "`layers` must name layers of the model. Nothing matches "
                f"{item!r}; the layers are "
                f"{[layer.name for layer in inside[1:]]}. "
                f"Received: layers={layers!r}"
            )
        by_themselves |= exact
        selected |= hits

    def select(weight: OwnedWeight) -> tuple[bool, bool]:
        own = {id(weight.variable), id(weight.layer)}
        holders = {id(layer) for layer in weight.chain}
        return bool((own | holders) & selected), bool(own & by_themselves)

    return select


def _matching(pattern: str, named: list[tuple[Any, str]]) -> set[int]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            "The strings in `layers` must be names of layers, paths of weights "
            "or regular expressions, in which `.*` stands for any characters. "
            f"Received: {pattern!r}, which is not valid: {error}"
        ) from error
    return {id(owner) for owner, name in named if compiled.fullmatch(name)}


def _as_items(layers: Any) -> list[keras.layers.Layer | str]:
    try:
        items = list(layers)
    except TypeError:
        items = [layers]
    if not items or not all(
        isinstance(item, str | keras.layers.Layer) for item in items
    ):
        raise TypeError(
            "`layers` must be a function of a layer, or a list of layers and "
            "of patterns of names or paths. "
            f"Received: layers={layers!r}"
        )
    return items
