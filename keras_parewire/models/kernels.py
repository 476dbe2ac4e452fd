"""Survey of a model: which weights are kernels, and how each is read.

All functions for whole models start from it, so that they agree.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras

from keras_parewire.models.kernel_axes import find_axes, reason_without_axes
from keras_parewire.models.layer_axes import KernelAxes, Skipped
from keras_parewire.models.weights import (
    Chain,
    OwnedWeight,
    chains_of,
    check_model,
    instances_in,
    owned_weights,
)
from keras_parewire.rewiring.matrix_view import MatrixView, grouped_view

Selection: TypeAlias = (
    Callable[[keras.layers.Layer], bool]
    | Sequence[keras.layers.Layer | str]
    | keras.layers.Layer
    | str
    | None
)

# Whether a weight is selected, and whether `layers` names it or its own layer,
# as an object or by its exact name, rather than along with others.
_Selector: TypeAlias = Callable[[OwnedWeight], tuple[bool, bool]]


class ClassifiedWeight(NamedTuple):
    """A weight of a model: a kernel, or skipped for a reason.

    Attributes:
        weight: The weight and the layer that owns it.
        selected: Whether the `layers` argument selects it.
        view: How it is read as matrices; None if it is skipped.
        skipped: Why it is skipped; None if it is not.
        fans: The axes along which initializers count its fans; None for those
            that Keras reads from its shape.
    """

    weight: OwnedWeight
    selected: bool
    view: MatrixView | None
    skipped: Skipped | None
    fans: tuple[Sequence[int], Sequence[int]] | None

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
    """What a model holds.

    Attributes:
        model: The model or layer.
        weights: Its weights, in Keras' order.
        optimizers: The optimizers in the attributes of all layers.
        generators: The random states in them.
        unbuilt: The paths of layers that may still get weights.
    """

    model: keras.Model | keras.layers.Layer
    weights: list[ClassifiedWeight]
    optimizers: list[keras.optimizers.Optimizer]
    generators: list[keras.random.SeedGenerator]
    unbuilt: list[str]


def survey_model(
    model: keras.Model | keras.layers.Layer, layers: Selection = None
) -> Survey:
    """Says of each weight of a model how to read it, or why it is skipped."""
    check_model(model)
    chains = chains_of(model)
    weights = owned_weights(chains)
    select = _selector(chains, weights, layers)
    classified = [_classified(weight, select) for weight in weights]
    if not any(item.selected for item in classified):
        owners = {type(weight.layer).__name__ for weight in weights}
        raise ValueError(
            "`layers` must select layers that have weights. Received: "
            f"layers={layers!r}, which selects none of the layers that own "
            f"some, of type {', '.join(sorted(owners))}"
        )
    attributes = [list(vars(chain[0]).values()) for chain in chains]
    optimizers = instances_in(attributes, keras.optimizers.Optimizer)
    generators = instances_in(attributes, keras.random.SeedGenerator)
    return Survey(
        model,
        classified,
        list({id(each): each for each in optimizers}.values()),
        list({id(each): each for each in generators}.values()),
        _unbuilt(chains),
    )


def classify_weights(
    model: keras.Model | keras.layers.Layer, layers: Selection = None
) -> list[ClassifiedWeight]:
    """Returns only the weights of a survey."""
    return survey_model(model, layers).weights


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


def _classified(weight: OwnedWeight, select: _Selector) -> ClassifiedWeight:
    selected, by_itself = select(weight)
    axes = find_axes(weight)
    if axes is None:
        reason = reason_without_axes(weight)
        return ClassifiedWeight(weight, selected, None, reason, None)
    skipped: Skipped | None = None
    if not selected:
        skipped = Skipped.NOT_SELECTED
    elif weight.is_quantized:
        skipped = Skipped.QUANTIZED
    elif axes.rank not in (None, len(weight.shape)):
        skipped = Skipped.OTHER_RANK
    elif not by_itself:
        skipped = axes.skipped_by_default
    view = None if skipped else _view(weight, axes)
    return ClassifiedWeight(weight, selected, view, skipped, axes.fans)


def _view(weight: OwnedWeight, axes: KernelAxes) -> MatrixView:
    try:
        return grouped_view(
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


def _selector(
    chains: list[Chain], weights: list[OwnedWeight], layers: Selection
) -> _Selector:
    """Returns a function that checks whether `layers` selects a weight."""
    if layers is None:
        return lambda weight: (True, False)
    if callable(layers) and not isinstance(layers, keras.layers.Layer | type):
        function = layers
        return lambda weight: (bool(function(weight.layer)), False)
    named = [(chain[0], chain[0].name) for chain in chains[1:]]
    named += [(w.variable, w.variable.path) for w in weights]
    by_themselves: set[int] = set()
    selected: set[int] = set()
    for item in _as_items(layers):
        if isinstance(item, str):
            exact = {id(owner) for owner, name in named if name == item}
            hits = exact or _matching(item, named)
        else:
            exact = hits = {id(x[0]) for x in chains if x[0] is item}
        if not hits:
            raise ValueError(
                "`layers` must name layers of the model. Nothing matches "
                f"{item!r}; the layers are {[x[0].name for x in chains[1:]]}. "
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
        return {id(x) for x, name in named if re.fullmatch(pattern, name)}
    except re.error as error:
        raise ValueError(
            "The strings in `layers` must be names of layers, paths of weights "
            "or regular expressions, in which `.*` stands for any characters. "
            f"Received: {pattern!r}, which is not valid: {error}"
        ) from error


def _as_items(layers: Any) -> list[keras.layers.Layer | str]:
    single = isinstance(layers, str | keras.layers.Layer)
    try:
        items = [layers] if single else list(layers)
    except TypeError:
        items = [layers]
    if not items:
        raise ValueError(
            "`layers` must name at least one layer, or be None for all. "
            f"Received: layers={layers!r}"
        )
    if not all(isinstance(item, str | keras.layers.Layer) for item in items):
        raise TypeError(
            "`layers` must be a function of a layer, or a list of layers and "
            f"of patterns of names or paths. Received: layers={layers!r}"
        )
    return items
