"""Removal of this package's initializers, so that a model loads without it."""

from typing import Any

import keras

from keras_parewire.initializers.wrapper import InitializerWrapper
from keras_parewire.models.weights import chains_of, check_layer


def strip_initializers(model: keras.Model | keras.layers.Layer) -> None:
    """Replaces this package's initializers in a model with their bases.

    The weights do not change. A model saved afterwards does not refer to this
    package, and loads where it is not installed. If an error is raised, the
    model stays as it was.

    Example:

    >>> layer = keras.layers.Dense(4, kernel_initializer=PARewired("he_normal"))
    >>> model = keras.Sequential([keras.Input((8,)), layer])
    >>> strip_initializers(model)
    >>> type(layer.kernel_initializer).__name__
    'HeNormal'

    Args:
        model: Keras model or layer, built or not. It is changed in place.

    Raises:
        ValueError: If a layer's config refers to this package in another way,
            for example by a `ChannelAverage`, which has no base.
        TypeError: If `model` is not a Keras model or layer.
    """
    check_layer(model)
    layers = [chain[0] for chain in chains_of(model)]
    wrapped: list[tuple[keras.layers.Layer, str, Any]] = [
        (layer, name, value)
        for layer in layers
        for name, value in vars(layer).items()
        if isinstance(value, InitializerWrapper)
    ]
    try:
        for layer, name, value in wrapped:
            while isinstance(value, InitializerWrapper):
                value = value.base
            setattr(layer, name, value)
        # Innermost first, to report the layer that itself refers to the
        # package.
        for layer in reversed(layers):
            _check_is_plain(layer)
    except BaseException:
        for layer, name, value in wrapped:
            setattr(layer, name, value)
        raise


def _check_is_plain(layer: keras.layers.Layer) -> None:
    try:
        config = keras.saving.serialize_keras_object(layer)
    except Exception:  # The `get_config` of any layer may raise anything.
        return  # It cannot be saved, with this package or without it.
    if "keras_parewire>" in str(config):
        raise ValueError(
            "A layer must refer to `keras_parewire` only by attributes that "
            "are initializers with a base to be replaced with, such as "
            f"`PARewired`. Received: layer {layer.name!r} of type "
            f"{type(layer).__name__}, whose config still refers to it"
        )
