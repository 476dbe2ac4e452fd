"""The weights of a model, each with the layer that owns it.

Keras' own walk over all layers is private, hence this one: through what layers
hold, as far as it is among the model's weights.
"""

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_parewire.models.kernel_axes import find_axes
from keras_parewire.rewiring.layouts import Layout, grouped_layout
from keras_parewire.rewiring.seeding import derive_seed
from keras_parewire.rewiring.validation import finite_values

Selection = Callable[[Any], bool] | Sequence[Any] | None


class OwnedWeight(NamedTuple):
    """A weight of a model.

    Attributes:
        variable: The weight.
        chain: The layer that owns it, the layer that holds this one, and so on
            up to the model.
        stream: Names the weight's own stream of random numbers.
    """

    variable: Any
    chain: tuple[Any, ...]
    stream: tuple[int, ...]

    def seed(self, seed: int, purpose: int) -> int:
        """The weight's own seed for one purpose, from the model's seed."""
        return derive_seed(seed, *self.stream, purpose)

    def values(self) -> np.ndarray:
        """The weight's values; they must be finite and at hand."""
        values = finite_values(self.variable, self.variable.path)
        if values is None:
            raise ValueError(
                "A model cannot be changed while it is being traced. "
                f"Received: {self.variable.path} without values"
            )
        return values


_CONTAINERS = (dict, list, tuple)

Plan = list[tuple[OwnedWeight, Layout | str]]


def check_layer(model: Any) -> None:
    """Checks that `model` is a model or layer, built or not."""
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            "`model` must be a Keras model or layer. "
            f"Received: model={model!r} of type {type(model).__name__}"
        )


def check_model(model: Any) -> None:
    """Checks that `model` is a model or layer that has its weights."""
    check_layer(model)
    if not model.built:
        raise ValueError(
            "`model` must be built, so that it has weights: call it on data, "
            "or give it an `Input`, or call its `build`. "
            f"Received: model={model.name!r}, built={model.built}"
        )
    if not model.weights:
        raise ValueError(
            f"`model` must have weights. Received: model={model.name!r}, "
            "built, with 0 weights"
        )


def check_no_steps(model: Any) -> None:
    """Checks that no training would be undone, as far as optimizers tell."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return
    steps = int(ops.convert_to_numpy(optimizer.iterations))
    if steps:
        raise ValueError(
            "A model's weights must be rearranged before it is trained: it "
            "would lose what it has learned. To train it from new weights, "
            "call `reinitialize` on all of it first; to change it all the "
            f"same, compile it anew. Received: model={model.name!r} after "
            f"{steps} steps of its optimizer"
        )


def owned_weights(model: Any) -> list[OwnedWeight]:
    """Lists every weight of a built model once, with its owner."""
    check_model(model)
    owners: dict[int, tuple[Any, ...]] = {}
    for chain in _chains(model):
        inner = {id(v) for part in sublayers(chain[0]) for v in part.weights}
        for variable in chain[0].weights:
            if id(variable) not in inner:
                owners.setdefault(id(variable), chain)
    # Names given by the user tell the weights apart in whatever order their
    # layers come. Those that Keras numbers would differ whenever the same
    # program builds the same model again, hence without the number.
    seen: Counter[str] = Counter()
    weights = []
    for variable in model.weights:
        chain = owners[id(variable)]
        names = [re.sub(r"_[0-9]+$", "", layer.name) for layer in chain[:-1]]
        name = "/".join([*reversed(names), variable.name])
        stream = int.from_bytes(name.encode(), "big"), seen[name]
        seen[name] += 1
        weights.append(OwnedWeight(variable, chain, stream))
    return weights


def kernel_plan(model: Any, layers: Selection, per_gate: bool) -> Plan:
    """Finds for each weight how it is read, or why it is left alone."""
    weights = owned_weights(model)
    chosen = selector(model, layers)
    plan: Plan = []
    for weight in weights:
        variable = weight.variable
        shape = tuple(variable.shape)
        inside, named = chosen(weight)
        axes = find_axes(weight.chain, variable.name, shape, per_gate)
        layout: Layout | str
        dtype = keras.backend.standardize_dtype(variable.dtype)
        if isinstance(axes, str):
            layout = axes
        elif not inside:
            layout = "not among `layers`"
        elif not keras.backend.is_float_dtype(dtype) or "float8" in dtype:
            layout = f"quantized to {dtype}"
        elif axes.unless_named and not named:
            layout = axes.unless_named
        else:
            try:
                layout = grouped_layout(
                    shape, axes.input_axes, axes.output_axes, axes.groups
                )
            except (TypeError, ValueError) as error:
                # Which of the axes registered for custom layers is wrong.
                raise type(error)(
                    f"{error}, for the weight {variable.path!r}"
                ) from error
        plan.append((weight, layout))
    return plan


def walk(model: Any) -> Iterator[Any]:
    """Yields a model and every layer in it once."""
    for chain in _chains(model):
        yield chain[0]


def sublayers(layer: Any) -> list[Any]:
    """The layers that a layer holds, each once."""
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    found = {id(part): part for part in _layers_in(vars(layer).values())}
    return list(found.values())


def selector(
    model: Any, layers: Selection
) -> Callable[[OwnedWeight], tuple[bool, bool]]:
    """Returns what tells whether a weight is chosen, and by its layer itself.

    Args:
        model: The model that all layers are in.
        layers: None for all, a function of the layer that owns the weight, or a
            list of layers and of patterns (`fnmatch`) of names of layers or
            paths of weights.
    """
    if layers is None:
        return lambda weight: (True, False)
    if callable(layers) and not isinstance(layers, keras.layers.Layer | type):
        chosen = layers
        return lambda weight: (bool(chosen(weight.chain[0])), False)
    if isinstance(layers, str | keras.layers.Layer):
        layers = [layers]
    within = list(walk(model))
    named: set[int] = set()
    matched: set[int] = set()
    for item in _as_items(layers):
        if isinstance(item, str):
            names = [(layer, layer.name) for layer in within[1:]]
            names += [(variable, variable.path) for variable in model.weights]
            hits = {
                id(owner)
                for owner, name in names
                if fnmatch.fnmatchcase(name, item)
            }
            matched |= hits
        else:
            hits = {id(layer) for layer in within if layer is item}
            named |= hits
        if not hits:
            raise ValueError(
                "`layers` must name layers of the model. No layer fits "
                f"{item!r}, but there are "
                f"{[layer.name for layer in within[1:]]}. "
                f"Received: layers={layers!r}"
            )

    def tell(weight: OwnedWeight) -> tuple[bool, bool]:
        ids = {id(part) for part in (weight.variable, *weight.chain)}
        return bool(ids & (named | matched)), id(weight.chain[0]) in named

    return tell


def assign_all(updates: Iterable[tuple[Any, np.ndarray]]) -> None:
    """Assigns new values to variables: to all of them or to none."""
    done: list[tuple[Any, np.ndarray]] = []
    try:
        for variable, values in updates:
            # A copy, since PyTorch's arrays share the variable's memory.
            done.append((variable, np.array(ops.convert_to_numpy(variable))))
            variable.assign(values)
    except BaseException:
        for variable, values in done:
            variable.assign(values)
        raise


def _chains(model: Any) -> Iterator[tuple[Any, ...]]:
    """Yields each layer of a model once, with those that hold it."""
    visited: set[int] = set()
    stack: list[tuple[Any, ...]] = [(model,)]
    while stack:
        chain = stack.pop()
        if id(chain[0]) in visited:
            continue
        visited.add(id(chain[0]))
        yield chain
        parts = reversed(sublayers(chain[0]))
        stack.extend((part, *chain) for part in parts)


def _layers_in(
    values: Iterable[Any], visited: frozenset[int] = frozenset()
) -> Iterator[Any]:
    for value in values:
        if isinstance(value, keras.layers.Layer):
            yield value
        # Containers may hold themselves.
        elif isinstance(value, _CONTAINERS) and id(value) not in visited:
            inner = value.values() if isinstance(value, dict) else value
            yield from _layers_in(inner, visited | {id(value)})


def _as_items(layers: Any) -> list[Any]:
    try:
        items = list(layers)
    except TypeError:
        items = [layers]
    if not items or not all(
        isinstance(item, str | keras.layers.Layer) for item in items
    ):
        raise TypeError(
            "`layers` must be a function of a layer, or a list of layers and "
            f"patterns of their names. Received: layers={layers!r}"
        )
    return items
