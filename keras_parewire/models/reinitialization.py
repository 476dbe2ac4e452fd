"""New weights for a whole model, drawn by its own initializers."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_parewire.initializers.bases import (
    BaseConfig,
    ResolvedBase,
    has_seed,
    resolve_base,
    serialize_base,
)
from keras_parewire.models.optimizers import find_copies, new_state, renewed
from keras_parewire.models.selection import Selection, selector
from keras_parewire.models.weights import (
    OwnedWeight,
    Update,
    assign_all,
    owned_weights,
)
from keras_parewire.rewiring.seeding import (
    Seed,
    Stream,
    check_seed,
    derive_seed,
    integer_seed,
)
from keras_parewire.rewiring.validation import known_values

NextSeed = Callable[[], int]


def reinitialize(
    model: keras.Model | keras.layers.Layer,
    *,
    seed: Seed = None,
    layers: Selection = None,
) -> None:
    """Redraws every weight of a built model from its own initializer.

    All weights change in place, as if the model had just been built: kernels,
    biases, normalization statistics and all others. Compiled functions stay
    compiled and see the new weights at once. The model's optimizers lose their
    state (step count and slots, but not the learning rate), so that the next
    training is that of a new model. Layers with an `adapt` method keep what
    they have measured, and random layers such as dropout keep the states of
    their seeds. If an error is raised, nothing changes.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> ensemble = []
    >>> for member in range(3):
    ...     reinitialize(model, seed=member)
    ...     ensemble.append(model.get_weights())  # After `model.fit`.

    Args:
        model: Built Keras model or layer.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a random
            one. It replaces the seeds of all initializers: each layer's own is
            derived from it, see `rewire_model`. It does not reach layers that
            draw without a seed from their config, or outside of `add_weight`:
            those draw from Python's global random state, as when they are
            built.
        layers: Which layers to reinitialize; see `rewire_model`. Unless it is
            None, the optimizers keep their state.

    Raises:
        ValueError: If the model has not been built or has no values, a layer is
            quantized, or neither a layer nor any layer that holds it can be
            re-created from its config.
        TypeError: If an argument is of the wrong type.
    """
    seed = check_seed(seed)
    weights = owned_weights(model)
    select = selector(model, layers)
    number = integer_seed(seed)
    by_owner: dict[int, list[OwnedWeight]] = {}
    for weight in weights:
        by_owner.setdefault(id(weight.layer), []).append(weight)
    updates: list[Update] = []
    for owned in by_owner.values():
        selected = [weight for weight in owned if select(weight)[0]]
        # A layer with `adapt` measured its weights; nothing drew them.
        if selected and not hasattr(owned[0].layer, "adapt"):
            _check_not_quantized(owned[0].layer)
            drawn = _draw_again(
                owned[0].chain, owned[0].seed(number, Stream.REINITIALIZATION)
            )
            updates += [(w.variable, drawn[id(w.variable)]) for w in selected]
    state = new_state(model) if layers is None else renewed(find_copies(model))
    # The state of an optimizer may depend on the new weights.
    assign_all(itertools.chain(updates, state))


def _draw_again(
    chain: tuple[keras.layers.Layer, ...], seed: int
) -> dict[int, np.ndarray]:
    """Returns new values of a layer's weights, by the ids of the variables.

    Some layers cannot be re-created from their own config, but only as part of
    the layer that holds them. That layer is then re-created for each of them,
    since they may share a seed in its config.
    """
    errors = []
    for layer in chain:
        try:
            return _recreate(layer, seed)
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def _recreate(layer: keras.layers.Layer, seed: int) -> dict[int, np.ndarray]:
    """Re-creates a layer with other seeds; returns its weights' values."""
    try:
        config = _with_new_seeds(layer.get_config(), _seeds(seed, 0))
        clone = _seeded_class(type(layer), seed).from_config(config)
        # Keras' default `build` could do nothing but warn.
        if type(layer).build is not keras.layers.Layer.build:
            clone.build_from_config(layer.get_build_config())
    except Exception as error:
        raise ValueError(
            "To be reinitialized, a layer must be one that can be re-created "
            f"from its config. Received: layer {layer.name!r} of type "
            f"{type(layer).__name__}, which raises {error}"
        ) from error
    pairs = list(zip(layer.weights, clone.weights, strict=False))
    if len(clone.weights) != len(layer.weights) or any(
        (old.name, old.shape) != (new.name, new.shape) for old, new in pairs
    ):
        raise ValueError(
            "To be reinitialized, a layer must have the same weights when it "
            "is re-created from its config; build its sublayers in its "
            f"`build`. Received: layer {layer.name!r} of type "
            f"{type(layer).__name__} with weights "
            f"{[v.name for v in layer.weights]}, which has "
            f"{[v.name for v in clone.weights]} when re-created"
        )
    return {id(old): known_values(new) for old, new in pairs}


def _seeded_class(
    layer_class: type[keras.layers.Layer], seed: int
) -> type[keras.layers.Layer]:
    """Returns a subclass whose weights are drawn with seeds from `seed`.

    A layer's config cannot seed all its weights: its code may fix initializers,
    or clone one of them for several weights.
    """
    streams = itertools.count(1)

    class Seeded(layer_class):
        def add_weight(
            self, *args: Any, initializer: Any = None, **kwargs: Any
        ) -> keras.Variable:
            next_seed = _seeds(seed, next(streams))
            if len(args) > 1:
                shape, positional, *others = args
                args = shape, _seeded(positional, next_seed), *others
            elif initializer is None and keras.backend.is_float_dtype(
                kwargs.get("dtype") or self.variable_dtype
            ):
                # Keras' own default.
                initializer = _seeded("glorot_uniform", next_seed)
            else:
                initializer = _seeded(initializer, next_seed)
            return super().add_weight(*args, initializer=initializer, **kwargs)

    Seeded.__name__ = layer_class.__name__
    Seeded.__qualname__ = layer_class.__qualname__
    Seeded.__module__ = layer_class.__module__
    return Seeded


def _seeds(seed: int, stream: int) -> NextSeed:
    numbers = itertools.count()
    return lambda: derive_seed(seed, stream, next(numbers))


def _seeded(initializer: Any, next_seed: NextSeed) -> Any:
    """Returns an initializer with other seeds, if it has any."""
    if isinstance(initializer, str | dict | type):
        try:
            # A seed given here keeps Keras from drawing one.
            initializer = resolve_base(initializer, next_seed()).base
        except ValueError:
            return initializer  # Keras raises a better error.
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    config = initializer.get_config()
    changed = _with_new_seeds(config, next_seed)
    if changed is config:
        return initializer
    return type(initializer).from_config(changed)


def _with_new_seeds(config: Any, next_seed: NextSeed) -> Any:
    """Returns a config with other seeds, or the same one if it has none."""
    if isinstance(config, BaseConfig):
        base = _seeded(config.resolved.base, next_seed)
        return serialize_base(ResolvedBase(base))
    if isinstance(config, keras.initializers.Initializer):
        return _seeded(config, next_seed)
    if isinstance(config, dict):
        changed = {
            key: _new_entry(key, value, next_seed)
            for key, value in config.items()
        }
        same = all(changed[key] is config[key] for key in config)
        return config if same else changed
    if type(config) in (list, tuple):
        items = [_with_new_seeds(value, next_seed) for value in config]
        same = all(new is old for new, old in zip(items, config, strict=True))
        return config if same else type(config)(items)
    return config


def _new_entry(key: Any, value: Any, next_seed: NextSeed) -> Any:
    if key == "seed":
        if value is None or type(value) is int:
            return next_seed()
        if isinstance(value, keras.random.SeedGenerator):
            return keras.random.SeedGenerator(next_seed())
    if isinstance(value, str) and str(key).endswith("initializer"):
        # The name of an initializer, which Keras would give a random seed.
        made = _seeded(value, next_seed)
        if has_seed(made):
            return keras.saving.serialize_keras_object(made)
        return value
    return _with_new_seeds(value, next_seed)


def _check_not_quantized(layer: keras.layers.Layer) -> None:
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        raise ValueError(
            "To be reinitialized, a layer must not be quantized: no "
            "initializer draws quantized weights. Received: "
            f"layer {layer.name!r} with quantization_mode={mode!r}"
        )
