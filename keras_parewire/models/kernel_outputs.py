"""What the kernels of a layer make of its inputs, before bias and activation.

It is computed anew from what each layer is called on, since a layer's own
outputs hold its bias and its activation, and may overflow in float16.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers, ops

from keras_parewire.rewiring.values import Tensor

_CONV = layers.Conv1D, layers.Conv2D, layers.Conv3D
_TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
_DEPTHWISE = layers.DepthwiseConv1D, layers.DepthwiseConv2D
_SEPARABLE = layers.SeparableConv1D, layers.SeparableConv2D


class Product(NamedTuple):
    """What a kernel does to its inputs."""

    name: str  # Of the kernel.
    apply: Callable[[Tensor, Tensor], Tensor]  # Of the inputs and the kernel.
    # The axes of the outputs that number the output neurons; along the others
    # are samples and positions.
    neurons: Sequence[int]


def products_of(layer: keras.layers.Layer) -> list[Product]:
    """Returns what each kernel of a layer does, in order.

    Each kernel is applied to the outputs of the one before it.
    """
    if isinstance(layer, layers.Dense):
        return [Product("kernel", ops.matmul, [-1])]
    if isinstance(layer, layers.EinsumDense):
        multiply = functools.partial(ops.einsum, layer.equation)
        return [Product("kernel", multiply, _einsum_neurons(layer.equation))]
    if isinstance(layer, _CONV):
        return [_convolution(layer, "kernel", ops.conv)]
    if isinstance(layer, _TRANSPOSED):
        convolve = functools.partial(
            ops.conv_transpose, output_padding=layer.output_padding
        )
        return [_convolution(layer, "kernel", convolve)]
    if isinstance(layer, _DEPTHWISE):
        return [_convolution(layer, "kernel", ops.depthwise_conv)]
    if isinstance(layer, _SEPARABLE):
        depthwise = _convolution(layer, "depthwise_kernel", ops.depthwise_conv)
        pointwise = functools.partial(ops.conv, data_format=layer.data_format)
        return [depthwise, Product("pointwise_kernel", pointwise, depthwise[2])]
    return []


def _convolution(
    layer: Any, name: str, operation: Callable[..., Tensor]
) -> Product:
    """Returns a convolution with the settings of a layer."""
    channels_last = layer.data_format == "channels_last"

    def apply(inputs: Tensor, kernel: Tensor) -> Tensor:
        padding = layer.padding
        if padding == "causal":  # Of a `Conv1D`, before the first position.
            before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            widths = [(0, 0), (before, 0), (0, 0)]
            if not channels_last:
                widths = [(0, 0), (0, 0), (before, 0)]
            inputs, padding = ops.pad(inputs, widths), "valid"
        return operation(
            inputs,
            kernel,
            strides=layer.strides,
            padding=padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    return Product(name, apply, [-1 if channels_last else 1])


def _einsum_neurons(equation: str) -> list[int]:
    """Returns the axes of the outputs that are axes of the kernel."""
    operands, output = equation.replace(" ", "").split("->")
    kernel = operands.split(",")[1]
    before, _, after = output.rpartition("...")
    axes = [i for i, letter in enumerate(before) if letter in kernel]
    axes += [
        i - len(after) for i, letter in enumerate(after) if letter in kernel
    ]
    return axes
