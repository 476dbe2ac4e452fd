"""Layers made again from their configs, to draw their weights anew."""

import itertools
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_parewire.initializers.reseeding import (
    NextSeed,
    config_with_new_seeds,
    with_new_seeds,
)
from keras_parewire.rewiring.seeding import derive_seed
from keras_parewire.rewiring.values import known_values


class NewWeight(NamedTuple):
    """A weight of a layer that has been made again.

    Attributes:
        values: Its values.
        stream: The number of the seeds that drew it; None if `add_weight` of
            the layer itself has not made it.
    """

    values: np.ndarray
    stream: int | None


def recreate(
    chain: tuple[keras.layers.Layer, ...], seed: int
) -> dict[int, NewWeight]:
    """Returns new weights of a layer, by the ids of its variables.

    Some layers cannot be re-created from their own config, but only as part of
    the layer that holds them. That layer is then re-created for each of them,
    since they may share a seed in its config.

    Args:
        chain: The layer, the layer that holds it, and so on.
        seed: Integer from which all seeds are derived.
    """
    errors = []
    for layer in chain:
        try:
            return _recreate(layer, seed)
        except ValueError as error:
            errors.append(error)
    others = [
        str(error) for error in errors[1:] if str(error) not in str(errors[0])
    ]
    if others:
        errors[0].add_note("Nor can what holds it: " + "; ".join(others))
    raise errors[0]


def seeds_of(seed: int, stream: int) -> NextSeed:
    """Returns a function that returns one new seed after the other."""
    numbers = itertools.count()
    return lambda: derive_seed(seed, stream, next(numbers))


def _recreate(layer: keras.layers.Layer, seed: int) -> dict[int, NewWeight]:
    streams: dict[int, int] = {}
    try:
        config = config_with_new_seeds(layer.get_config(), seeds_of(seed, 0))
        clone = _seeded_class(type(layer), seed, streams).from_config(config)
        # Keras' default `build` could do nothing but warn.
        if type(layer).build is not keras.layers.Layer.build:
            clone.build_from_config(layer.get_build_config())
    except Exception as error:
        raise ValueError(
            "To be reinitialized, a layer must be one that can be re-created "
            f"from its config. Received: layer {layer.name!r} of type "
            f"{type(layer).__name__}, which raises {error}"
        ) from error
    shapes, new_shapes = (
        [tuple(variable.shape) for variable in each.weights]
        for each in (layer, clone)
    )
    if shapes != new_shapes:
        raise ValueError(
            "To be reinitialized, a layer must have the same weights when it "
            "is re-created from its config; build its sublayers in its "
            f"`build`. Received: layer {layer.name!r} of type "
            f"{type(layer).__name__} with weights of the shapes {shapes}, "
            f"which has {new_shapes} when re-created"
        )
    return {
        id(old): NewWeight(known_values(new), streams.get(id(new)))
        for old, new in zip(layer.weights, clone.weights, strict=True)
    }


def _seeded_class(
    layer_class: type[keras.layers.Layer], seed: int, streams: dict[int, int]
) -> type[keras.layers.Layer]:
    """Returns a subclass whose weights are drawn with seeds from `seed`.

    A layer's config cannot seed all its weights: its code may fix initializers,
    or clone one of them for several weights.

    Args:
        layer_class: The class of the layer.
        seed: Integer from which all seeds are derived.
        streams: Filled with the number of each variable's seeds, by its id.
    """
    numbers = itertools.count(1)

    # Its place among the ancestors is right before Keras' own class, so that it
    # sees what the layer's own `add_weight`, if it has one, makes of a call.
    class Seeding(keras.layers.Layer):
        def add_weight(
            self,
            shape: Any = None,
            initializer: Any = None,
            dtype: Any = None,
            **kwargs: Any,
        ) -> keras.Variable:
            stream = next(numbers)
            if initializer is None and keras.backend.is_float_dtype(
                keras.backend.standardize_dtype(dtype or self.variable_dtype)
            ):
                initializer = "glorot_uniform"  # Keras' own default.
            variable = super().add_weight(
                shape=shape,
                initializer=with_new_seeds(initializer, seeds_of(seed, stream)),
                dtype=dtype,
                **kwargs,
            )
            streams[id(variable)] = stream
            return variable

    class Seeded(layer_class, Seeding):
        pass

    Seeded.__name__ = layer_class.__name__
    Seeded.__qualname__ = layer_class.__qualname__
    Seeded.__module__ = layer_class.__module__
    return Seeded
