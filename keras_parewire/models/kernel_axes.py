"""Which weights of a layer are kernels, and along which axes."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import keras

from keras_parewire.models.layer_axes import (
    AXES_OF_LAYERS,
    LAYERS_WITHOUT_KERNELS,
    AxesOfLayer,
    KernelAxes,
    Skipped,
)
from keras_parewire.models.weights import OwnedWeight
from keras_parewire.rewiring.validation import check_count

# The names that layers of other libraries give to vectors they look up or add.
_EMBEDDING_NAME = re.compile(r"(.*_)?(emb|embed|embeddings?|encoding|tokens?)")

Entry = TypeVar("Entry")


def register_axes(
    layer_class: type[keras.layers.Layer],
    function: Callable[[Any], Mapping[str, Sequence[Any]]],
) -> None:
    """Registers the axes of a custom layer's kernels.

    All functions for whole models use the registered axes, along which the
    initializers of `reinitialize` also count fans. They apply to subclasses and
    to unknown layers inside a layer, too, and come before those that the
    package knows for Keras' own layers.

    Example:

    >>> class Bilinear(keras.layers.Layer):
    ...     def build(self, shapes):
    ...         left, right = shapes[0][-1], shapes[1][-1]
    ...         self.weight = self.add_weight(
    ...             name="weight", shape=(5, left, right)
    ...         )
    >>> # Each of the five units is a matrix from `left` to `right`.
    >>> register_axes(Bilinear, lambda layer: {"weight": ([1], [2])})

    Args:
        layer_class: Subclass of `keras.layers.Layer`.
        function: Function that takes a layer and returns a dict from the names
            of its own weights to `(input_axes, output_axes)`, two lists of
            integers. Axes in neither list number independent groups. An
            optional third element is the number of equal parts into which the
            last axis is split, each a group of its own (as in a convolution).
            Weights that the dict does not name are skipped.

    Raises:
        TypeError: If `layer_class` is not a subclass of `keras.layers.Layer`,
            or `function` is not callable.
    """
    if not isinstance(layer_class, type) or not issubclass(
        layer_class, keras.layers.Layer
    ):
        raise TypeError(
            "`layer_class` must be a subclass of `keras.layers.Layer`. "
            f"Received: layer_class={layer_class!r}"
        )
    if not callable(function):
        raise TypeError(
            "`function` must be a function that takes a layer. "
            f"Received: function={function!r}"
        )
    AXES_OF_LAYERS[layer_class] = _checked(function)


def find_axes(weight: OwnedWeight) -> KernelAxes | Skipped:
    """Returns the axes of a kernel, or why the weight is none."""
    for layer in weight.chain:
        axes_of_layer = _lookup(AXES_OF_LAYERS, layer)
        known = axes_of_layer(layer) if axes_of_layer else {}
        for name in weight.names:
            if name in known:
                return known[name]
        if axes_of_layer and layer is weight.layer:
            break  # Its other weights are not kernels.
    layer, names = weight.layer, weight.names
    is_known = _lookup(AXES_OF_LAYERS, layer) is not None
    kind = _lookup(LAYERS_WITHOUT_KERNELS, layer)
    if kind is not None and not is_known:
        return kind
    if "bias" in names or (names[0].endswith("_bias") and not is_known):
        return Skipped.BIAS
    if names[0].startswith("lora_"):
        return Skipped.LORA
    if len(weight.shape) < 2:
        return Skipped.VECTOR
    if is_known:
        return Skipped.NOT_A_KERNEL
    if any(map(_EMBEDDING_NAME.fullmatch, names)):
        return Skipped.EMBEDDING
    return Skipped.UNKNOWN_LAYER


def _lookup(
    table: Mapping[type, Entry], layer: keras.layers.Layer
) -> Entry | None:
    return next((table[c] for c in type(layer).__mro__ if c in table), None)


def _checked(
    function: Callable[[Any], Mapping[str, Sequence[Any]]],
) -> AxesOfLayer:
    """Wraps a registered function to check what it returns."""

    def axes_of_layer(layer: keras.layers.Layer) -> dict[str, KernelAxes]:
        known = function(layer)
        received = f"Received, for {type(layer).__name__}: {known!r}"
        try:
            checked = {name: _axes(*given) for name, given in known.items()}
        except (AttributeError, TypeError, ValueError) as error:
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(
                "A function given to `register_axes` must return a dict from "
                "weight names to `(input_axes, output_axes)` or `(input_axes, "
                f"output_axes, groups)`, with 1 group or more. {received}"
            ) from error
        held = vars(layer).items()
        names = {k for k, v in held if isinstance(v, keras.Variable)}
        names |= {variable.name for variable in layer.weights}
        if not names.issuperset(checked):
            raise ValueError(
                "A function given to `register_axes` must name weights of its "
                f"layer, which are {sorted(names)}. {received}"
            )
        return checked

    return axes_of_layer


def _axes(inputs: Any, outputs: Any, groups: Any = 1) -> KernelAxes:
    count = check_count(groups, "groups")
    return KernelAxes(inputs, outputs, count, fans=(inputs, outputs))
