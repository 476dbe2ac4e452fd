"""The weights of a model, each with the layer that owns it.

Keras' own walk over all layers is private. This one follows the attributes of
each layer and considers only the model's weights.
"""

import enum
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_parewire.rewiring.seeding import derive_seed
from keras_parewire.rewiring.values import Tensor, check_finite, known_values

_CONTAINERS = (dict, list, tuple)

# A variable and its new values.
Update = tuple[keras.Variable, Tensor]


class Stream(enum.IntEnum):
    """What the random numbers of one weight are for."""

    REWIRING = 0
    BASE = 1
    REINITIALIZATION = 2


class OwnedWeight(NamedTuple):
    """A weight of a model.

    Attributes:
        variable: The weight.
        chain: The layer that owns it, the layer that holds that layer, and so
            on up to the model.
        stream: Identifies the weight's own stream of random numbers.
    """

    variable: keras.Variable
    chain: tuple[keras.layers.Layer, ...]
    stream: tuple[int, ...]

    @property
    def layer(self) -> keras.layers.Layer:
        """The layer that owns the weight."""
        return self.chain[0]

    @property
    def names(self) -> list[str]:
        """The variable's name, then what its layer calls it."""
        attributes = vars(self.layer).items()
        called = [k for k, v in attributes if v is self.variable]
        return [self.variable.name, *(name.lstrip("_") for name in called)]

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        return tuple(self.variable.shape)

    @property
    def dtype(self) -> str:
        """The weight's dtype."""
        dtype: str = keras.backend.standardize_dtype(self.variable.dtype)
        return dtype

    @property
    def is_quantized(self) -> bool:
        """Whether the values are codes rather than weights."""
        return not keras.backend.is_float_dtype(self.dtype) or (
            "float8" in self.dtype
        )

    @property
    def is_measured(self) -> bool:
        """Whether the layer's `adapt` measures it, so that nothing draws it."""
        measures = callable(getattr(self.layer, "adapt", None))
        return measures and not self.variable.trainable

    def seed(self, seed: int, purpose: Stream) -> int:
        """The weight's own seed for one purpose, from the model's seed."""
        return derive_seed(seed, *self.stream, purpose)

    def values(self) -> np.ndarray:
        """The weight's values, which must be known."""
        return known_values(self.variable)

    def placed(self, values: np.ndarray) -> Tensor:
        """New values on the devices of the weight.

        Under a distribution, a process then holds only its own shards.
        """
        distribution = keras.distribution.distribution()
        if distribution is None:
            return values
        layout = distribution.get_variable_layout(self.variable)
        return keras.distribution.distribute_tensor(values, layout)

    def finite_values(self) -> np.ndarray:
        """The weight's values, which must be known and finite."""
        values = self.values()
        check_finite(values, self.variable.path)
        return values


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
    if not model.built:
        raise ValueError(
            "`model` must be built, so that it has weights: call it on data, "
            "add an `Input`, or call its `build` method. "
            f"Received: model={model.name!r}, built={model.built}"
        )
    if not model.weights:
        raise ValueError(
            f"`model` must have weights. Received: model={model.name!r}, "
            "which is built and has none"
        )
    for variable in model.weights:
        if getattr(variable.value, "is_meta", False):
            raise ValueError(
                "The weights of `model` must have values; those on PyTorch's "
                f"meta device have none. Received: model={model.name!r} with "
                f"{variable.path} on the meta device"
            )


def owned_weights(
    model: keras.Model | keras.layers.Layer,
) -> list[OwnedWeight]:
    """Lists every weight of a built model once, with the layer that owns it."""
    check_model(model)
    owners: dict[int, tuple[keras.layers.Layer, ...]] = {}
    for chain in chains(model):
        layer = chain[0]
        inner = {id(v) for part in sublayers(layer) for v in part.weights}
        for variable in layer.weights:
            if id(variable) in inner:
                continue
            # A layer may hold a weight that another one has made.
            if id(variable) not in owners or _has_made(layer, variable):
                owners[id(variable)] = chain
    seen: Counter[str] = Counter()
    weights = []
    for variable in model.weights:
        chain = owners[id(variable)]
        name = _name_in_any_process(chain, variable)
        stream = int.from_bytes(name.encode(), "big"), seen[name]
        seen[name] += 1
        weights.append(OwnedWeight(variable, chain, stream))
    return weights


def _has_made(layer: keras.layers.Layer, variable: keras.Variable) -> bool:
    """Whether a variable's path says that the layer has made it."""
    return bool(variable.path.split("/")[-2:-1] == [layer.name])


def _name_in_any_process(
    chain: tuple[keras.layers.Layer, ...], variable: keras.Variable
) -> str:
    """Returns a name that the same program gives the weight whenever it runs.

    Names that the user chose identify the weights in any order of their layers.
    Keras' automatic names end in a number that counts what the process has made
    before, so that number is left out, also where a name contains another one.
    """
    automatic = re.compile(r"_[0-9]+$")
    names: list[str] = []
    numbered: list[str] = []
    for layer in reversed(chain):
        names.append(automatic.sub("", _without(numbered, layer.name)))
        if automatic.search(layer.name):
            numbered.append(layer.name)
    name = re.sub(r"^variable_[0-9]+$", "variable", variable.name)
    return "/".join([*names[1:], _without(numbered, name)])


def _without(numbered: list[str], name: str) -> str:
    """Replaces numbered names of layers in a longer name by their stems."""
    for whole in numbered:
        if name != whole:
            name = name.replace(whole, whole.rpartition("_")[0])
    return name


def unbuilt_layers(
    model: keras.Model | keras.layers.Layer,
) -> list[tuple[keras.layers.Layer, ...]]:
    """Lists the layers that may still get weights, each with its holders.

    Leaves out layers inside an unbuilt layer, unless that is a model, which has
    no weights besides those of its layers.
    """
    return [
        chain
        for chain in chains(model)
        if _is_unbuilt(chain[0]) and not any(map(_is_unbuilt, chain[1:]))
    ]


def walk(
    model: keras.Model | keras.layers.Layer,
) -> Iterator[keras.layers.Layer]:
    """Yields a model and every layer in it, each once."""
    for chain in chains(model):
        yield chain[0]


def chains(
    model: keras.Model | keras.layers.Layer,
) -> Iterator[tuple[keras.layers.Layer, ...]]:
    """Yields each layer of a model once, followed by those that hold it."""
    visited: set[int] = set()
    stack: list[tuple[keras.layers.Layer, ...]] = [(model,)]
    while stack:
        chain = stack.pop()
        if id(chain[0]) in visited:
            continue
        visited.add(id(chain[0]))
        yield chain
        parts = reversed(sublayers(chain[0]))
        stack.extend((part, *chain) for part in parts)


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Lists the layers that a layer holds directly, each once."""
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    parts = instances_in(vars(layer).values(), keras.layers.Layer)
    return list({id(part): part for part in parts}.values())


def assign_all(
    updates: Iterable[Update],
) -> None:
    """Assigns new values to variables: to all of them or to none.

    An iterator may compute an update from those that were made before it.
    """
    done: list[Update] = []
    try:
        for variable, values in updates:
            done.append((variable, _snapshot(variable)))
            variable.assign(values)
    except BaseException:
        for variable, values in done:
            variable.assign(values)
        raise


def _snapshot(variable: keras.Variable) -> Tensor:
    """Returns a variable's values, which stay what they are."""
    if keras.backend.backend() == "jax":
        # Its tensors never change; those on several hosts stay there.
        return variable.value
    # A copy, since PyTorch's arrays share the variable's memory.
    return np.array(known_values(variable))


def _is_unbuilt(layer: keras.layers.Layer) -> bool:
    # A layer without a `build` of its own has no weights to build.
    return (
        not layer.built
        and not isinstance(layer, keras.Model)
        and type(layer).build is not keras.layers.Layer.build
    )


def held_by(model: keras.Model | keras.layers.Layer, kind: type) -> list[Any]:
    """Lists the instances of a class that a model and its layers hold."""
    held = {
        id(value): value
        for layer in walk(model)
        for value in instances_in(vars(layer).values(), kind)
    }
    return list(held.values())


def instances_in(
    values: Iterable[Any], kind: type, visited: frozenset[int] = frozenset()
) -> Iterator[Any]:
    """Yields the instances of a class in containers of any depth."""
    for value in values:
        if isinstance(value, kind):
            yield value
        # Containers may hold themselves.
        elif isinstance(value, _CONTAINERS) and id(value) not in visited:
            inner = value.values() if isinstance(value, dict) else value
            yield from instances_in(inner, kind, visited | {id(value)})
