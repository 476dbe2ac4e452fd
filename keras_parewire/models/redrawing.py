"""Weights drawn as their layers draw them when they are built."""

import contextlib
import inspect
import itertools
import warnings
from typing import Any, TypeAlias

import keras
import numpy as np
from keras.initializers import Initializer

from keras_parewire.initializers.bases import Base, draw_from_base, with_axes
from keras_parewire.initializers.reseeding import (
    NextSeed,
    config_with_new_seeds,
    with_new_seeds,
)
from keras_parewire.initializers.wrapper import InitializerWrapper
from keras_parewire.models.kernels import ClassifiedWeight
from keras_parewire.models.weights import (
    OwnedWeight,
    Stream,
    chains_of,
    own_weights,
)
from keras_parewire.rewiring.seeding import derive_seed
from keras_parewire.rewiring.values import known_values

# By the places of weights, their values or what draws them, and whether a layer
# has set them; or why it cannot be made again.
Made: TypeAlias = dict[int, tuple[Any, bool]] | str


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
    new: dict[int, np.ndarray | None] = {}
    made: dict[int, Made] = {}
    refused: dict[str, tuple[dict[str, None], str]] = {}
    for weight in weights:
        try:
            new[weight.place] = _redraw_weight(weight, weights, seed, made)
        except ValueError as error:
            name, kind = weight.layer.name, type(weight.layer).__name__
            refused.setdefault(kind, ({}, str(error)))[0][repr(name)] = None
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
    kept = [w.variable.path for w in weights if new[w.place] is None]
    if kept:
        warnings.warn(
            "Nothing says how to draw variables that no layer has made by "
            f"`add_weight`, so they keep their values. Received: {kept}",
            stacklevel=stacklevel + 1,
        )
    return {place: drawn for place, drawn in new.items() if drawn is not None}


def _redraw_weight(
    weight: OwnedWeight,
    weights: list[OwnedWeight],
    seed: int,
    made: dict[int, Made],
) -> Any:
    """Draws a weight.

    Its layer is made again, to see how it draws it; but first those that hold
    it, which may have set it. Some can only be made as part of a holder. If
    nothing can be, the initializer that the layer names draws the weight.
    """
    layer = weight.layer
    if isinstance(layer, keras.layers.TorchModuleWrapper):
        raise ValueError("its weights are copied from a PyTorch module")
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        raise ValueError(f"quantization_mode={mode!r}")

    def look_up(holder: keras.layers.Layer) -> tuple[Any, bool]:
        if id(holder) not in made:
            made[id(holder)] = _make_again(holder, weights, seed)
        found = made[id(holder)]
        known = found if isinstance(found, dict) else {}
        return known.get(weight.place, (None, False))

    for holder in reversed(weight.chain[1:]):
        # Neither models nor Keras' own layers set what is inside them.
        own = type(holder).__module__.startswith("keras.")
        if not (own or isinstance(holder, keras.Model)):
            value, is_set = look_up(holder)
            if is_set:
                return value
    for holder in weight.chain:
        value, _ = look_up(holder)
        if value is not None:
            is_drawn = isinstance(value, np.ndarray)
            return value if is_drawn else _draw(value, weight, seed)
    if weight.initializer is not None:
        return _draw(weight.initializer, weight, seed)
    # The path of a variable that was set from outside names no layer.
    if "/" in weight.variable.path:
        raise ValueError(" ".join(str(made[id(layer)]).split())[:120])
    return None


def _make_again(
    layer: keras.layers.Layer, weights: list[OwnedWeight], seed: int
) -> Made:
    """Makes a layer again; returns what weights in it are then, or an error."""
    inside = [w for w in weights if any(x is layer for x in w.chain)]
    problem: Any = None
    # In the scope, Keras puts draws off, so that the initializers can get other
    # seeds; but there are variables that cannot be made in it.
    for scope in (keras.StatelessScope(), None):
        try:
            with scope or contextlib.nullcontext():
                return _recreated(layer, inside, seed, scope)
        except Exception as error:
            problem = error
    while problem.__context__ is not None:
        problem = problem.__context__
    return str(problem)


def _recreated(
    layer: keras.layers.Layer,
    weights: list[OwnedWeight],
    seed: int,
    scope: Any,
) -> dict[int, tuple[Any, bool]]:
    config = layer.get_config()
    accepted = inspect.signature(type(layer).__init__).parameters.values()
    if all(each.kind is not each.VAR_KEYWORD for each in accepted):
        # Keras adds these to the config of any layer.
        names = {"name", "trainable", "dtype"} - {p.name for p in accepted}
        config = {k: v for k, v in config.items() if k not in names}
    next_seed = _seeds(weights[0], seed, Stream.CONFIG)
    clone = type(layer).from_config(_seeded(config, next_seed))
    seeded: set[int] = set()
    for part, *_ in chains_of(clone):
        if type(part).add_weight is keras.layers.Layer.add_weight:
            # Not by `setattr`, which Keras and PyTorch watch.
            vars(part)["add_weight"] = _seeding(part, next_seed, seeded)
    # Keras' default `build` could do nothing but warn.
    if type(layer).build is not keras.layers.Layer.build:
        clone.build_from_config(layer.get_build_config())
    # All weights, or those of the layer without what it holds.
    for weights_of in (lambda layer: layer.weights, own_weights):
        old, new = weights_of(layer), weights_of(clone)
        if len(old) > len(new):  # Some were set from outside.
            old = [variable for variable in old if "/" in variable.path]
        shapes = [[tuple(v.shape) for v in each] for each in (old, new)]
        if shapes[0] == shapes[1]:
            break
    else:
        raise ValueError(
            f"when re-created, it has weights of the shapes {shapes[1]}, not "
            f"{shapes[0]}"
        )
    new_of = dict(zip(map(id, old), new, strict=True))
    made = [
        (w, new_of[id(w.variable)]) for w in weights if id(w.variable) in new_of
    ]
    is_set = {
        id(v) for v in new if scope and scope.get_current_value(v) is not None
    }
    # What a layer's code sets may depend on the others that it has drawn.
    setting = {id(w.layer) for w, variable in made if id(variable) in is_set}
    drawn = {}
    for weight, variable in made:
        seen = id(variable) in seeded and id(weight.layer) in setting
        as_set = seen or id(variable) in is_set
        each = vars(variable).values()
        held = [x for x in each if isinstance(x, Initializer)]
        as_made = as_set or scope is None or not held
        value = known_values(variable) if as_made else held[0]
        drawn[weight.place] = value, as_set
    return drawn


def _seeding(
    layer: keras.layers.Layer, next_seed: NextSeed, seeded: set[int]
) -> Any:
    """Returns the `add_weight` of a layer, giving initializers other seeds."""
    add_weight = layer.add_weight

    def add_seeded(
        shape: Any = (), initializer: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        dtype = args[0] if args else kwargs.get("dtype")
        if keras.backend.is_float_dtype(dtype or layer.variable_dtype):
            initializer = initializer or "glorot_uniform"  # As in Keras.
        initializer = with_new_seeds(initializer, next_seed)
        variable = add_weight(shape, initializer, *args, **kwargs)
        seeded.add(id(variable))
        return variable

    return add_seeded


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
