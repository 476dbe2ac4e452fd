"""The weights of a model, each with the layer that owns it.

Keras' own walk over all layers is private. This one follows the attributes of
each layer and considers only the model's weights.
"""

import enum
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import keras

# A layer, the layer that holds it, and so on up to the model.
Chain: TypeAlias = tuple[keras.layers.Layer, ...]


class Stream(enum.IntEnum):
    """What random numbers are for."""

    REWIRING = 0
    DRAWING = 1
    CONFIG = 2
    RANDOM_LAYER = 3


class OwnedWeight(NamedTuple):
    """A weight of a model."""

    variable: keras.Variable
    chain: Chain  # From the layer that owns it.
    place: int  # Among the model's weights.

    @property
    def layer(self) -> keras.layers.Layer:
        return self.chain[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    @property
    def dtype(self) -> str:
        return str(keras.backend.standardize_dtype(self.variable.dtype))

    @property
    def names(self) -> list[str]:
        """The variable's name, then what its layer calls it."""
        attributes = vars(self.layer).items()
        called = [k for k, v in attributes if v is self.variable]
        return [self.variable.name, *(name.lstrip("_") for name in called)]

    @property
    def initializer(self) -> Any:
        """The initializer that the layer names for the weight, or None."""
        if getattr(self.layer, "unit_forget_bias", False):
            return None  # An LSTM's draws only a part of the bias.
        kernel = len(self.shape) > 1
        if kernel and isinstance(self.layer, keras.layers.EinsumDense):
            return None  # It gives the kernel's axes to a copy.
        named = (f"{name}_initializer" for name in self.names)
        found = (getattr(self.layer, name, None) for name in named)
        return next((x for x in found if x is not None), None)

    @property
    def is_quantized(self) -> bool:
        """Whether the values are codes rather than weights."""
        is_float = keras.backend.is_float_dtype(self.dtype)
        return not is_float or "float8" in self.dtype

    @property
    def is_adapted(self) -> bool:
        """Whether the layer's `adapt` measures it, so that nothing draws it."""
        measures = callable(getattr(self.layer, "adapt", None))
        return measures and not self.variable.trainable


def check_layer(model: Any) -> None:
    """Checks that `model` is a model or a layer, built or not."""
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            "`model` must be a Keras model or layer. "
            f"Received: model={model!r} of type {type(model).__name__}"
        )


def check_model(model: Any) -> None:
    """Checks that `model` is a model or a layer that has its weights."""
    check_layer(model)
    if not model.weights:
        raise ValueError(
            "`model` must be built, so that it has weights: call it on data, "
            "add an `Input`, or call its `build` method. "
            f"Received: model={model.name!r}, built={model.built}, without any"
        )
    for variable in model.weights:
        if getattr(variable.value, "is_meta", False):
            raise ValueError(
                "The weights of `model` must have values; those on PyTorch's "
                f"meta device have none. Received: model={model.name!r} with "
                f"{variable.path} on the meta device"
            )


def chains_of(model: keras.Model | keras.layers.Layer) -> list[Chain]:
    """Lists each layer of a model once, followed by those that hold it."""
    chains: dict[int, Chain] = {}
    stack: list[Chain] = [(model,)]
    while stack:
        chain = stack.pop()
        if id(chain[0]) not in chains:
            chains[id(chain[0])] = chain
            stack += [(part, *chain) for part in _sublayers(chain[0])[::-1]]
    return list(chains.values())


def owned_weights(chains: list[Chain]) -> list[OwnedWeight]:
    """Lists every weight of a model once, with the layer that owns it."""
    owners: dict[int, Chain] = {}
    for chain in chains:
        for variable in own_weights(chain[0]):
            # A layer may hold a weight that another one has made.
            if id(variable) not in owners or _has_made(chain[0], variable):
                owners[id(variable)] = chain
    model = chains[0][0]
    return [
        OwnedWeight(variable, owners[id(variable)], index)
        for index, variable in enumerate(model.weights)
    ]


def own_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Lists the weights of a layer that are not those of its sublayers."""
    inner = {id(v) for part in _sublayers(layer) for v in part.weights}
    return [v for v in layer.weights if id(v) not in inner]


def _has_made(layer: keras.layers.Layer, variable: keras.Variable) -> bool:
    """Whether a variable's path says that the layer has made it."""
    return bool(variable.path.split("/")[-2:-1] == [layer.name])


def _sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Lists the layers that a layer holds directly, each once."""
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    return instances_in(vars(layer).values(), keras.layers.Layer)


def instances_in(values: Iterable[Any], kind: type) -> list[Any]:
    """Lists the instances of a class in containers of any depth, each once."""
    found: dict[int, Any] = {}
    visited: set[int] = set()  # Containers may hold themselves.
    stack = list(values)[::-1]
    while stack:
        value = stack.pop()
        if isinstance(value, kind):
            found[id(value)] = value
        elif isinstance(value, dict | list | tuple):
            inner = value.values() if isinstance(value, dict) else value
            stack += [] if id(value) in visited else list(inner)[::-1]
            visited.add(id(value))
    return list(found.values())
