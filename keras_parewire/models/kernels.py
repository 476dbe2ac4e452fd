"""Survey of a model: which weights are kernels, and how each is read.

All functions for whole models start from it, so that they agree.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras

from keras_parewire.models.kernel_axes import find_axes
from keras_parewire.models.layer_axes import Fans, KernelAxes, Skipped
from keras_parewire.models.weights import (
    Chain,
    OwnedWeight,
    chains_of,
    check_model,
    instances_in,
    owned_weights,
)
from keras_parewire.rewiring.matrix_view import MatrixView, matrix_view

Selection: TypeAlias = (
    Callable[[keras.layers.Layer], bool]
    | Sequence[keras.layers.Layer | str]
    | keras.layers.Layer
    | str
    | None
)


class ClassifiedWeight(NamedTuple):
    """A weight of a model: a kernel, or skipped for a reason."""

    weight: OwnedWeight
    selected: bool  # By the `layers` argument.
    view: MatrixView | None  # None if it is skipped.
    skipped: Skipped | None
    fans: Fans  # Of a kernel.

    @property
    def reason(self) -> str | None:
        """Why the weight is skipped, in words; None if it is not."""
        if self.skipped is None:
            return None
        layer = self.weight.layer
        # Keras packs int4 into int8.
        mode = getattr(layer, "quantization_mode", None) or self.weight.dtype
        return self.skipped.value.format(layer=type(layer).__name__, dtype=mode)


class Survey(NamedTuple):
    """What a model holds, found in one walk over its layers."""

    model: keras.Model | keras.layers.Layer
    weights: list[ClassifiedWeight]  # In Keras' order.
    optimizers: list[keras.optimizers.Optimizer]  # Attributes of any layer.
    generators: list[keras.random.SeedGenerator]  # The same.
    unbuilt: list[str]  # The paths of layers that may still get weights.


def survey_model(
    model: keras.Model | keras.layers.Layer, layers: Selection = None
) -> Survey:
    """Says of each weight of a model how to read it, or why it is skipped."""
    check_model(model)
    chains = chains_of(model)
    weights = owned_weights(chains)
    selection = _selection(chains, weights, layers)
    classified = [
        _classified(weight, *selected)
        for weight, selected in zip(weights, selection, strict=True)
    ]
    if not any(item.selected for item in classified):
        owners = {type(weight.layer).__name__ for weight in weights}
        raise ValueError(
            "`layers` must select layers that have weights. Received: "
            f"layers={layers!r}, which selects none of the layers that own "
            f"some, of type {', '.join(sorted(owners))}"
        )
    unbuilt = _unbuilt(chains)
    if unbuilt and not model.built:
        raise ValueError(
            "`model` must be built, so that it has all its weights: call it on "
            "data, or build its layers. "
            f"Received: model={model.name!r}, of which are not built: {unbuilt}"
        )
    held = [list(vars(layer).values()) for layer, *_ in chains]
    optimizers = instances_in(held, keras.optimizers.Optimizer)
    generators = instances_in(held, keras.random.SeedGenerator)
    return Survey(model, classified, optimizers, generators, unbuilt)


def warn_if_unknown(
    classified: list[ClassifiedWeight], stacklevel: int
) -> None:
    """Warns if a model has no kernels because its layers are unknown."""
    unknown = {
        type(item.weight.layer).__name__
        for item in classified
        if item.selected
        and item.skipped in (Skipped.UNKNOWN_LAYER, Skipped.OTHER_RANK)
    }
    if unknown and all(item.view is None for item in classified):
        warnings.warn(
            "None of the weights is a kernel of a known layer, so nothing is "
            "changed. To name the axes of a layer's kernels, see "
            "`keras_parewire.register_axes`. Received: weights of "
            f"{', '.join(sorted(unknown))}",
            stacklevel=stacklevel + 1,
        )


def _classified(
    weight: OwnedWeight, selected: bool, by_itself: bool
) -> ClassifiedWeight:
    axes = find_axes(weight)
    if isinstance(axes, Skipped):
        return ClassifiedWeight(weight, selected, None, axes, None)
    skipped: Skipped | None = None
    if not selected:
        skipped = Skipped.NOT_SELECTED
    elif weight.is_quantized:
        skipped = Skipped.QUANTIZED
    elif axes.rank not in (None, len(weight.shape)):
        skipped = Skipped.OTHER_RANK
    elif 0 in weight.shape:
        skipped = Skipped.EMPTY
    elif not by_itself:
        skipped = axes.skipped_by_default
    view = None if skipped else _view(weight, axes)
    return ClassifiedWeight(weight, selected, view, skipped, axes.fans)


def _view(weight: OwnedWeight, axes: KernelAxes) -> MatrixView:
    try:
        return matrix_view(
            weight.shape, axes.input_axes, axes.output_axes, axes.groups
        )
    except (TypeError, ValueError) as error:
        # Say which of the registered axes are wrong.
        raise type(error)(
            f"{error}, for the weight {weight.variable.path!r}"
        ) from error


def _unbuilt(chains: list[Chain]) -> list[str]:
    """Lists the paths of layers that may still get weights.

    Leaves out layers inside an unbuilt layer, unless that is a model, which has
    no weights besides those of its layers.
    """
    # A layer without a `build` of its own has no weights to build.
    unbuilt = {
        id(layer)
        for layer, *_ in chains
        if not (layer.built or isinstance(layer, keras.Model))
        and type(layer).build is not keras.layers.Layer.build
    }
    return [
        "/".join(layer.name for layer in reversed(chain[:-1]))
        for chain in chains
        if [x for x in chain if id(x) in unbuilt] == [chain[0]]
    ]


def _selection(
    chains: list[Chain], weights: list[OwnedWeight], layers: Selection
) -> list[tuple[bool, bool]]:
    """Returns whether `layers` selects each weight, and whether by itself.

    That is as an object or by its exact name, or that of its own layer, rather
    than along with others.
    """
    if layers is None:
        return [(True, False)] * len(weights)
    if callable(layers) and not isinstance(layers, keras.layers.Layer | type):
        return [(bool(layers(weight.layer)), False) for weight in weights]
    named = [(layer, layer.name) for layer, *_ in chains[1:]]
    named += [(w.variable, w.variable.path) for w in weights]
    by_themselves: set[int] = set()
    selected: set[int] = set()
    for item in _as_items(layers):
        if isinstance(item, str):
            exact = {id(owner) for owner, name in named if name == item}
            hits = exact or _matching(item, named)
        else:
            exact = hits = {id(layer) for layer, *_ in chains if layer is item}
        if not hits:
            raise ValueError(
                "`layers` must name layers of the model. Nothing matches "
                f"{item!r}; the layers are {[x.name for x, *_ in chains[1:]]}. "
                f"Received: layers={layers!r}"
            )
        by_themselves |= exact
        selected |= hits
    return [
        (
            not selected.isdisjoint([id(w.variable), *map(id, w.chain)]),
            not by_themselves.isdisjoint([id(w.variable), id(w.layer)]),
        )
        for w in weights
    ]


def _matching(pattern: str, named: list[tuple[Any, str]]) -> set[int]:
    try:
        return {id(x) for x, name in named if re.fullmatch(pattern, name)}
    except re.error as error:
        raise ValueError(
            "The strings in `layers` must be names of layers, paths of weights "
            "or regular expressions, in which `.*` stands for any characters. "
            f"Received: {pattern!r}, which is not valid: {error}"
        ) from error


def _as_items(layers: Any) -> list[keras.layers.Layer | str]:
    kinds = str | keras.layers.Layer
    several = isinstance(layers, Iterable) and not isinstance(layers, kinds)
    items = list(layers) if several else [layers]
    if not items:
        raise ValueError(
            "`layers` must name at least one layer, or be None for all. "
            f"Received: layers={layers!r}"
        )
    if not all(isinstance(item, kinds) for item in items):
        raise TypeError(
            "`layers` must be a function of a layer, or a list of layers and "
            f"of patterns of names or paths. Received: layers={layers!r}"
        )
    return items
