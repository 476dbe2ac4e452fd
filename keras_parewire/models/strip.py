"""Models without this package's initializers, to be loaded without it."""

from typing import Any

import keras
import numpy as np

from keras_parewire.initializers.wrapper import InitializerWrapper
from keras_parewire.models.weights import check_layer, walk


def strip(model: Any) -> None:
    """Replaces this package's initializers in a model by their bases.

    The weights stay. A model saved afterwards names nothing of this package,
    so that it loads where the package is not installed.

    Example:

    >>> layer = keras.layers.Dense(4, kernel_initializer=PARewired("he_normal"))
    >>> model = keras.Sequential([keras.Input((8,)), layer])
    >>> strip(model)
    >>> type(layer.kernel_initializer).__name__
    'HeNormal'

    Args:
        model: Keras model or layer, built or not.

    Raises:
        ValueError: If a layer's config names this package in another way, such
            as by a `ChannelAverage`, which has no base, or in a list of a
            custom layer; nothing has changed then.
        TypeError: If `model` is no Keras model or layer.
    """
    check_layer(model)
    replaced = []
    for layer in walk(model):
        for name, value in vars(layer).items():
            if isinstance(value, InitializerWrapper):
                replaced.append((layer, name, value))
    for layer, name, value in replaced:
        setattr(layer, name, _innermost(value))
    # The innermost first, which is to be named.
    for layer in reversed(list(walk(model))):
        if _names_us(layer):
            for changed, name, value in replaced:
                setattr(changed, name, value)
            raise ValueError(
                "To be stripped, a layer must name `keras_parewire` only by "
                "attributes that are a `PARewired` or a `StrengthStabilized`. "
                f"Received: a layer {layer.name!r} of type "
                f"{type(layer).__name__} whose config names more"
            )


def _innermost(initializer: Any) -> Any:
    while isinstance(initializer, InitializerWrapper):
        initializer = initializer.base
    if isinstance(initializer, np.ndarray):
        return keras.initializers.Constant(initializer)
    return initializer


def _names_us(layer: Any) -> bool:
    try:
        config = keras.saving.serialize_keras_object(layer)
    except (TypeError, ValueError, NotImplementedError):
        return False  # It cannot be saved, with or without us.
    return "keras_parewire>" in str(config)
