"""How much of a network's pre-activations is alike for all images.

Behind a ReLU all inputs of a kernel are positive, so a neuron whose incoming
weights have a high sum starts with a large constant, its offset.
"""

import keras
import numpy as np


def pre_activations(network):
    """Returns a model of what each activation function gets, and the logits.

    A normalization between a kernel and its activation function counts: its
    output is what remains of an offset.
    """
    kinds = keras.layers.Activation, keras.layers.ReLU
    found = [
        layer.input for layer in network.layers if isinstance(layer, kinds)
    ]
    return keras.Model(network.input, [*found, network.output])


def measure_offsets(tensors):
    """Measures pre-activations of several images, layer by layer.

    Args:
        tensors: A tensor or several, whose last axis is that of the neurons.

    Returns:
        A dict with two numbers for each layer, counted from 1: the variance
        over the neurons of their means (`offset_1`), and the same divided by
        the mean over the neurons of their variances (`relative_offset_1`).
        Positions in an image count as images do.
    """
    offsets, relative = {}, {}
    # A model with a single output returns no list.
    for number, tensor in enumerate(keras.tree.flatten(tensors), 1):
        values = keras.ops.convert_to_numpy(tensor).astype("float64")
        values = values.reshape(-1, values.shape[-1])
        offset = float(np.var(values.mean(axis=0)))
        offsets[f"offset_{number}"] = offset
        relative[f"relative_offset_{number}"] = offset / float(
            np.mean(values.var(axis=0))
        )
    return offsets | relative
