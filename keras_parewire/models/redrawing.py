"""Weights drawn as their layers draw them when they are built."""

import contextlib
import inspect
import itertools
import warnings
from typing import Any

import keras
import numpy as np

from keras_parewire.initializers.bases import Base, draw_from_base, with_axes
from keras_parewire.initializers.reseeding import (
    NextSeed,
    config_with_new_seeds,
    with_new_seeds,
)
from keras_parewire.initializers.wrapper import InitializerWrapper
from keras_parewire.models.kernels import ClassifiedWeight
from keras_parewire.models.weights import OwnedWeight, Stream, own_weights
from keras_parewire.rewiring.seeding import derive_seed
from keras_parewire.rewiring.values import known_values


def draw_kernel(
    initializer: Base, item: ClassifiedWeight, seed: int
) -> np.ndarray:
    """Draws a kernel from a given initializer, along its true axes."""
    weight = item.weight
    next_seed = _seeds(weight, seed, Stream.DRAWING)
    fans = item.fans or (None, None)
    seeded = with_new_seeds(initializer, next_seed)
    if isinstance(seeded, InitializerWrapper) and item.view:
        seeded = seeded.with_view(item.view, *fans)
    else:
        seeded = with_axes(seeded, *fans)
    drawn = draw_from_base(seeded, weight.shape, weight.dtype)
    return known_values(drawn)


def redraw(
    weights: list[OwnedWeight], seed: int, stacklevel: int
) -> dict[int, np.ndarray]:
    """Draws weights as their layers do, and returns them by their places.

    Warns of variables that no layer has made, which are left out.
    """
    by_layer: dict[int, list[OwnedWeight]] = {}
    for weight in weights:
        by_layer.setdefault(id(weight.layer), []).append(weight)
    new: dict[int, np.ndarray] = {}
    refused: dict[str, tuple[list[str], str]] = {}
    for owned in by_layer.values():
        try:
            new |= _redraw_layer(owned, seed)
        except ValueError as error:
            name, kind = owned[0].layer.name, type(owned[0].layer).__name__
            refused.setdefault(kind, ([], str(error)))[0].append(repr(name))
    if refused:
        raise ValueError(
            "To be reinitialized, a layer must be one that can be re-created "
            "from its config, or name the initializers of its weights in "
            "attributes `<weight>_initializer`; `layers` can leave others out. "
            "Received: "
            + "\n".join(
                f"{', '.join(names)} of type {kind}: {problem}"
                for kind, (names, problem) in refused.items()
            )
        )
    kept = [w.variable.path for w in weights if w.place not in new]
    if kept:
        warnings.warn(
            "Nothing says how to draw variables that no layer has made by "
            f"`add_weight`, so they keep their values. Received: {kept}",
            stacklevel=stacklevel + 1,
        )
    return new


def _redraw_layer(
    weights: list[OwnedWeight], seed: int
) -> dict[int, np.ndarray]:
    """Draws weights of one layer.

    The layer is made again, to see how it draws them. Some can only be made as
    part of the layer that holds them. If neither can be, the initializers that
    the layer names draw its weights.
    """
    layer = weights[0].layer
    if isinstance(layer, keras.layers.TorchModuleWrapper):
        raise ValueError("its weights are copied from a PyTorch module")
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        raise ValueError(f"quantization_mode={mode!r}")
    errors: list[BaseException] = []
    for holder in weights[0].chain:
        # In the scope, Keras puts draws off, so that the initializers can get
        # other seeds; but there are variables that cannot be made in it.
        for scope in (keras.StatelessScope(), None):
            try:
                with scope or contextlib.nullcontext():
                    return _recreated(holder, weights, seed, scope)
            except Exception as error:
                errors.append(error)
    named = [weight for weight in weights if weight.initializer is not None]
    unnamed = [w.variable for w in weights if w.initializer is None]
    # The path of a variable that was set from outside names no layer.
    if any("/" in variable.path for variable in unnamed):
        problem = errors[1]
        while problem.__context__ is not None:
            problem = problem.__context__
        raise ValueError(" ".join(str(problem).split())[:120])
    return {w.place: _draw(w.initializer, w, seed) for w in named}


def _recreated(
    layer: keras.layers.Layer,
    weights: list[OwnedWeight],
    seed: int,
    scope: Any,
) -> dict[int, np.ndarray]:
    """Makes a layer again, and returns what weights in it are then."""
    config = layer.get_config()
    accepted = inspect.signature(type(layer).__init__).parameters.values()
    if all(each.kind is not each.VAR_KEYWORD for each in accepted):
        # Keras adds these to the config of any layer.
        names = {"name", "trainable", "dtype"} - {p.name for p in accepted}
        config = {k: v for k, v in config.items() if k not in names}
    next_seed = _seeds(weights[0], seed, Stream.CONFIG)
    clone = type(layer).from_config(_seeded(config, next_seed))
    # Keras' default `build` could do nothing but warn.
    if type(layer).build is not keras.layers.Layer.build:
        clone.build_from_config(layer.get_build_config())
    if layer is weights[0].layer:
        old, new = own_weights(layer), own_weights(clone)
    else:
        old, new = layer.weights, clone.weights
    if len(old) > len(new):  # Some were set from outside.
        old = [variable for variable in old if "/" in variable.path]
    shapes = [[tuple(v.shape) for v in each] for each in (old, new)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"when re-created, it has weights of the shapes {shapes[1]}, not "
            f"{shapes[0]}"
        )
    new_of = dict(zip(map(id, old), new, strict=True))
    return {
        w.place: _draw_again(new_of[id(w.variable)], w, seed, scope)
        for w in weights
        if id(w.variable) in new_of
    }


def _draw_again(
    new: keras.Variable, weight: OwnedWeight, seed: int, scope: Any
) -> np.ndarray:
    held = [
        each
        for each in vars(new).values()
        if isinstance(each, keras.initializers.Initializer)
    ]
    # The layer's code may have assigned values after it made the variable.
    assigned = scope is None or scope.get_current_value(new) is not None
    if not held or assigned:
        return known_values(new)
    return _draw(held[0], weight, seed)


def _draw(initializer: Any, weight: OwnedWeight, seed: int) -> np.ndarray:
    seeded = with_new_seeds(initializer, _seeds(weight, seed, Stream.DRAWING))
    return known_values(seeded(weight.shape, dtype=weight.dtype))


def _seeds(weight: OwnedWeight, seed: int, purpose: Stream) -> NextSeed:
    """Returns a function that returns one new seed after the other."""
    numbers = itertools.count()
    own = derive_seed(seed, weight.place, purpose)
    return lambda: derive_seed(own, next(numbers))


def _seeded(config: Any, next_seed: NextSeed) -> Any:
    """Gives the initializers in a layer's config other seeds."""
    if isinstance(config, dict):
        return {
            key: config_with_new_seeds({key: value}, next_seed)[key]
            if str(key).endswith("initializer")
            else _seeded(value, next_seed)
            for key, value in config.items()
        }
    if type(config) in (list, tuple):
        return type(config)(_seeded(each, next_seed) for each in config)
    return config
