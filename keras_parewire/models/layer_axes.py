"""The axes of the kernels of Keras' own layers, class by class.

The rank of a weight does not show whether it is a kernel: the biases of
attention layers and GRUs are matrices too. The layer's class and the weight's
name do. The tests measure the axes of every class with Jacobians.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from keras import layers


class Skipped(enum.Enum):
    """Why a weight is not rewired; the values are what reports print."""

    BIAS = "bias"
    VECTOR = "vector"
    NORMALIZATION = "normalization"
    ACTIVATION = "activation"
    SIGNAL_TRANSFORM = "signal transform"
    LORA = "LoRA adapter"
    EMBEDDING = "embedding"
    DEPTHWISE = "depthwise: tiny kernels, channel by channel"
    NOT_SELECTED = "not among `layers`"
    NOT_BUILT = "not built"
    NOT_A_KERNEL = "not a kernel of {layer}"
    UNKNOWN_LAYER = "unknown layer {layer}, see `register_axes`"
    OTHER_RANK = "of another rank than {layer} has, see `register_axes`"
    QUANTIZED = "quantized to {dtype}"


class KernelAxes(NamedTuple):
    """How a kernel is read as matrices.

    Attributes:
        input_axes: The axes that number the input neurons.
        output_axes: The axes that number the output neurons. Axes on neither
            side number independent groups.
        groups: How many groups lie one after the other on the last axis.
        rank: The rank of the kernel that the axes are for; None for any.
        skipped_by_default: Why the kernel is skipped unless `layers` names its
            own layer, or None.
        fans: The axes along which initializers count the kernel's fans; None if
            they read them from its shape, as most layers of Keras let them.
    """

    input_axes: Sequence[int]
    output_axes: Sequence[int]
    groups: int = 1
    rank: int | None = None
    skipped_by_default: Skipped | None = None
    fans: tuple[Sequence[int], Sequence[int]] | None = None


# Maps a layer to the axes of its kernels, by the names of the weights.
AxesOfLayer: TypeAlias = Callable[[Any], Mapping[str, KernelAxes]]


def einsum_axes(layer: layers.EinsumDense) -> dict[str, KernelAxes]:
    """Returns the axes of an `EinsumDense` kernel.

    A letter that the kernel shares with both the input and the output numbers
    groups. There are none if no letter is summed over or none is new in the
    output.
    """
    operands, output = layer.equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    kernel = kernel.replace("...", "")
    places = range(len(kernel))
    summed = [i for i in places if kernel[i] not in output]
    new = [i for i in places if kernel[i] not in inputs]
    if not summed or not new:
        return {}
    # Keras counts a letter of groups among the outputs.
    fans = summed, [i for i in places if i not in summed]
    return {"kernel": KernelAxes(summed, new, rank=len(kernel), fans=fans)}


def _last_axis(rank: int, groups: int = 1) -> KernelAxes:
    """Returns the axes of a kernel `(..., in, out)`."""
    return KernelAxes(range(rank - 1), [-1], groups, rank)


def _conv(rank: int) -> AxesOfLayer:
    return lambda layer: {"kernel": _last_axis(rank + 2, layer.groups)}


def _conv_transpose(rank: int) -> AxesOfLayer:
    axes = {"kernel": KernelAxes([*range(rank), -1], [-2], rank=rank + 2)}
    return lambda layer: axes


def _depthwise_axes(rank: int) -> KernelAxes:
    return KernelAxes(
        range(rank),
        [-1],
        rank=rank + 2,
        skipped_by_default=Skipped.DEPTHWISE,
    )


def _depthwise(rank: int) -> AxesOfLayer:
    axes = {"kernel": _depthwise_axes(rank)}
    return lambda layer: axes


def _separable(rank: int) -> AxesOfLayer:
    axes = {
        "depthwise_kernel": _depthwise_axes(rank),
        "pointwise_kernel": _last_axis(rank + 2),
    }
    return lambda layer: axes


def _recurrent(rank: int) -> AxesOfLayer:
    axes = _last_axis(rank + 2)
    return lambda layer: {"kernel": axes, "recurrent_kernel": axes}


def _embedding(layer: layers.Embedding) -> dict[str, KernelAxes]:
    return {
        # No neuron sums over the tokens: they are looked up one at a time.
        "embeddings": _last_axis(2)._replace(
            skipped_by_default=Skipped.EMBEDDING
        ),
        # The untied output projection of a `ReversibleEmbedding` does sum.
        "reverse_embeddings": _last_axis(2),
    }


AXES_OF_LAYERS: dict[type, AxesOfLayer] = {
    layers.Dense: lambda layer: {"kernel": _last_axis(2)},
    layers.EinsumDense: einsum_axes,
    layers.Embedding: _embedding,
    layers.SimpleRNNCell: _recurrent(0),
    layers.LSTMCell: _recurrent(0),
    layers.GRUCell: _recurrent(0),
    layers.Conv1D: _conv(1),
    layers.Conv2D: _conv(2),
    layers.Conv3D: _conv(3),
    layers.Conv1DTranspose: _conv_transpose(1),
    layers.Conv2DTranspose: _conv_transpose(2),
    layers.Conv3DTranspose: _conv_transpose(3),
    layers.DepthwiseConv1D: _depthwise(1),
    layers.DepthwiseConv2D: _depthwise(2),
    layers.SeparableConv1D: _separable(1),
    layers.SeparableConv2D: _separable(2),
    # The classes of their cells are not public.
    layers.ConvLSTM1D: _recurrent(1),
    layers.ConvLSTM2D: _recurrent(2),
    layers.ConvLSTM3D: _recurrent(3),
}
if hasattr(layers, "TernaryDense"):  # New in Keras 3.16.
    AXES_OF_LAYERS[layers.TernaryDense] = AXES_OF_LAYERS[layers.Dense]

# Layers whose weights of rank 2 or more are not kernels.
LAYERS_WITHOUT_KERNELS: dict[type, Skipped] = {
    layers.BatchNormalization: Skipped.NORMALIZATION,
    layers.GroupNormalization: Skipped.NORMALIZATION,
    layers.LayerNormalization: Skipped.NORMALIZATION,
    layers.Normalization: Skipped.NORMALIZATION,
    layers.RMSNormalization: Skipped.NORMALIZATION,
    layers.SpectralNormalization: Skipped.NORMALIZATION,
    layers.PReLU: Skipped.ACTIVATION,
    layers.STFTSpectrogram: Skipped.SIGNAL_TRANSFORM,
}
