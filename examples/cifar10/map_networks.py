"""The networks of the map, with a constant behind each kernel."""

import keras
from keras import layers

from cifar10.data import DEVIATION, MEAN
from cifar10.map_cells import LARGE_CELLS
from cifar10.models import CLASSES, RECIPES


class ConstantAndBias(keras.layers.Layer):
    """Multiplies what a kernel gives by a constant, and adds a bias.

    The constant, 1 by default, rescales signals without the weights.
    """

    def build(self, shape):
        self.constant = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="constant"
        )
        self.bias = self.add_weight(
            shape=(shape[-1],), initializer="zeros", name="bias"
        )

    def call(self, inputs):
        return inputs * self.constant + self.bias


def build(cell):
    """Returns the network of a cell."""
    if cell.model in LARGE_CELLS:
        return RECIPES[cell.model].build(cell.base)
    networks = {"cnn": cnn, "mlp": mlp}
    return networks[cell.model](cell.base, **cell.network)


def cnn(base, activation="relu", normalization=None):
    """The small CNN of `models.py`."""
    inputs = x = keras.Input((32, 32, 3))
    for filters in (16, 32, 64):
        kernel = layers.Conv2D(
            filters,
            3,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer=base,
        )
        x = _activated(kernel(x), activation, normalization)
    x = _dense(layers.Flatten()(x), 64, base)
    x = _activated(x, activation, normalization)
    return keras.Model(inputs, ConstantAndBias()(_dense(x, CLASSES, base)))


def mlp(base, positive=False):
    """The MLP of `models.py`."""
    inputs = x = keras.Input((32, 32, 3))
    if positive:
        x = layers.Rescaling(DEVIATION, MEAN)(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = _activated(_dense(x, 500, base))
    return keras.Model(inputs, ConstantAndBias()(_dense(x, CLASSES, base)))


def _dense(x, units, base):
    return layers.Dense(units, use_bias=False, kernel_initializer=base)(x)


def _activated(x, activation="relu", normalization=None):
    x = ConstantAndBias()(x)
    if normalization:
        x = getattr(layers, normalization)()(x)
    return layers.Activation(activation)(x)
