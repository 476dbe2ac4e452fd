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
    EMPTY = "empty"


# The axes along which initializers count the fans of a kernel; None if they
# read them from its shape, as most layers of Keras let them.
Fans: TypeAlias = tuple[Sequence[int], Sequence[int]] | None


class KernelAxes(NamedTuple):
    """How a kernel is read as matrices.

    Axes on neither side number independent groups; `groups` more of them lie
    one after the other on the last axis.
    """

    input_axes: Sequence[int]
    output_axes: Sequence[int]
    groups: int = 1
    rank: int | None = None  # Of the kernel that this is for; None for any.
    skipped_by_default: Skipped | None = None  # Unless `layers` names it.
    fans: Fans = None


# Maps a layer to the axes of its kernels, by the names of the weights.
AxesOfLayer: TypeAlias = Callable[[Any], Mapping[str, KernelAxes]]


def _einsum(layer: layers.EinsumDense) -> dict[str, KernelAxes]:
    # A letter in the inputs, the kernel and the output numbers groups.
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


def _fixed(**axes: KernelAxes) -> AxesOfLayer:
    return lambda layer: axes


def _last_axis(rank: int) -> KernelAxes:
    """Returns the axes of a kernel `(..., in, out)`."""
    return KernelAxes(range(rank - 1), [-1], rank=rank)


def _recurrent(rank: int) -> AxesOfLayer:
    return _fixed(kernel=_last_axis(rank), recurrent_kernel=_last_axis(rank))


def _conv(rank: int) -> AxesOfLayer:
    axes = _last_axis(rank)
    return lambda layer: {"kernel": axes._replace(groups=layer.groups)}


def _conv_transpose(rank: int) -> AxesOfLayer:
    inputs = [*range(rank - 2), -1]
    return _fixed(kernel=KernelAxes(inputs, [-2], rank=rank))


def _depthwise(rank: int) -> KernelAxes:
    skipped = Skipped.DEPTHWISE
    axes = KernelAxes(range(rank - 2), [-1], rank=rank)
    return axes._replace(skipped_by_default=skipped)


def _separable(rank: int) -> AxesOfLayer:
    pointwise = _last_axis(rank)
    return _fixed(depthwise_kernel=_depthwise(rank), pointwise_kernel=pointwise)


AXES_OF_LAYERS: dict[type, AxesOfLayer] = {
    layers.Dense: _fixed(kernel=_last_axis(2)),
    layers.EinsumDense: _einsum,
    layers.Embedding: _fixed(
        # No neuron sums over the tokens: they are looked up one at a time.
        embeddings=_last_axis(2)._replace(skipped_by_default=Skipped.EMBEDDING),
        # The untied output projection of a `ReversibleEmbedding` does sum.
        reverse_embeddings=_last_axis(2),
    ),
    layers.SimpleRNNCell: _recurrent(2),
    layers.LSTMCell: _recurrent(2),
    layers.GRUCell: _recurrent(2),
    layers.Conv1D: _conv(3),
    layers.Conv2D: _conv(4),
    layers.Conv3D: _conv(5),
    layers.Conv1DTranspose: _conv_transpose(3),
    layers.Conv2DTranspose: _conv_transpose(4),
    layers.Conv3DTranspose: _conv_transpose(5),
    layers.DepthwiseConv1D: _fixed(kernel=_depthwise(3)),
    layers.DepthwiseConv2D: _fixed(kernel=_depthwise(4)),
    layers.SeparableConv1D: _separable(3),
    layers.SeparableConv2D: _separable(4),
    # The classes of their cells are not public.
    layers.ConvLSTM1D: _recurrent(3),
    layers.ConvLSTM2D: _recurrent(4),
    layers.ConvLSTM3D: _recurrent(5),
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
