"""Which weights of which layers are kernels, and by which axes.

Rank does not tell: the biases of attention layers and GRUs are matrices. So it
goes by the layer's class and the weight's name. The axes of every class were
measured with Jacobians (`tests/test_axes.py`).
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keras import layers


class KernelAxes(NamedTuple):
    """How a kernel is read as matrices.

    Attributes:
        input_axes: The axes that number the input neurons.
        output_axes: The axes that number the output neurons. Axes in neither
            number independent groups.
        groups: How many groups lie one after the other on the last axis.
        unless_named: Why the kernel is skipped unless its layer is asked for.
    """

    input_axes: Sequence[int]
    output_axes: Sequence[int]
    groups: int = 1
    unless_named: str | None = None


Rule = Callable[[Any], Mapping[str, Any]]


def register_axes(layer_class: type, function: Rule) -> None:
    """Tells the whole-model functions the axes of a custom layer's kernels.

    What is registered for a class holds for its subclasses, and for layers
    inside it of which nothing is known. It also replaces what the package knows
    of Keras' own layers.

    Example:

    >>> class Bilinear(keras.layers.Layer):
    ...     def build(self, shapes):
    ...         left, right = shapes[0][-1], shapes[1][-1]
    ...         self.weight = self.add_weight(
    ...             name="weight", shape=(5, left, right)
    ...         )
    >>> # Each of five units is a matrix from `left` to `right`.
    >>> register_axes(Bilinear, lambda layer: {"weight": ([1], [2])})

    Args:
        layer_class: Subclass of `keras.layers.Layer`.
        function: Called with a layer, returns a dict from the names of the
            layer's own weights to `(input_axes, output_axes)`, two lists of
            integers. Axes in neither number independent groups, each of which
            is rewired by itself. A third element says into how many equal
            blocks the last axis is parted, each a group of its own (the groups
            of a convolution). Weights that are not named are skipped.

    Raises:
        TypeError: If `layer_class` is no subclass of `keras.layers.Layer`, or
            `function` cannot be called.
    """
    if not isinstance(layer_class, type) or not issubclass(
        layer_class, layers.Layer
    ):
        raise TypeError(
            "`layer_class` must be a subclass of `keras.layers.Layer`. "
            f"Received: layer_class={layer_class!r}"
        )
    if not callable(function):
        raise TypeError(
            "`function` must be a function of a layer. "
            f"Received: function={function!r}"
        )
    _RULES[layer_class] = _checked(function)


def find_axes(
    chain: Sequence[Any], name: str, shape: Sequence[int], per_gate: bool
) -> KernelAxes | str:
    """The axes of a weight, or the reason why it is no kernel.

    Args:
        chain: The layer that owns the weight, the layer that holds this one,
            and so on.
        name: The weight's name.
        shape: Its shape.
        per_gate: Whether each gate of a recurrent kernel is a group.
    """
    owner = type(chain[0]).__name__
    for layer in chain:
        rule = _lookup(_RULES, layer)
        if rule is None:
            continue
        known = rule(layer)
        if name in known:
            axes: KernelAxes = known[name]
            gates = _lookup(_GATES, layer) if per_gate else None
            return axes._replace(groups=axes.groups * (gates or 1))
        if layer is chain[0]:
            break  # Its other weights are no kernels.
    else:
        reason: str | None = _lookup(_NO_KERNELS, chain[0])
        if reason is not None:
            return reason
        if name != "bias" and len(shape) > 1:
            return f"unknown layer {owner}, see `register_axes`"
    if name == "bias":
        return "bias"
    if name.startswith("lora_"):
        return "LoRA adapter"
    if len(shape) < 2:
        return "vector"
    return f"no kernel of {owner}"


def einsum_axes(layer: Any) -> tuple[list[int], list[int]] | None:
    """The input and output axes of an `EinsumDense` kernel, by its equation.

    A letter of the kernel that is in the input and the output as well numbers
    groups. None if no letter is summed over, or none is new in the output.
    """
    operands, output = layer.equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    kernel = kernel.replace("...", "")
    summed = [i for i, letter in enumerate(kernel) if letter not in output]
    new = [i for i, letter in enumerate(kernel) if letter not in inputs]
    return (summed, new) if summed and new else None


def _lookup(table: dict[type, Any], layer: Any) -> Any:
    return next((table[c] for c in type(layer).__mro__ if c in table), None)


def _checked(function: Rule) -> Rule:
    """Wraps what users register, to check what it returns."""

    def rule(layer: Any) -> dict[str, KernelAxes]:
        known = function(layer)
        kind = type(layer).__name__
        if not isinstance(known, Mapping):
            raise TypeError(
                "A function given to `register_axes` must return a dict from "
                f"weight names to axes. Received, for {kind}: {known!r}"
            )
        names = {variable.name for variable in layer.weights}
        checked = {}
        for name, axes in known.items():
            if name not in names:
                raise ValueError(
                    f"{kind} has no weight of the name {name!r} given to "
                    f"`register_axes`. Received, for {kind}: {known!r}, where "
                    f"its weights are {sorted(names)}"
                )
            try:
                checked[name] = KernelAxes(*axes)
                groups = operator.index(checked[name].groups)
            except TypeError as error:
                raise TypeError(
                    "The axes of a kernel must be `(input_axes, output_axes)` "
                    "or `(input_axes, output_axes, groups)`. Received, for "
                    f"the weight {name!r} of {kind}: {axes!r}"
                ) from error
            if groups < 1:
                raise ValueError(
                    "`groups` must be 1 or more. Received, for the weight "
                    f"{name!r} of {kind}: groups={groups}"
                )
        return checked

    return rule


def _einsum(layer: Any) -> dict[str, KernelAxes]:
    axes = einsum_axes(layer)
    return {"kernel": KernelAxes(*axes)} if axes else {}


def _conv(rank: int) -> Rule:
    return lambda layer: {
        "kernel": KernelAxes(range(rank + 1), [-1], layer.groups)
    }


def _conv_transpose(rank: int) -> Rule:
    axes = {"kernel": KernelAxes([*range(rank), -1], [-2])}
    return lambda layer: axes


def _depthwise(rank: int) -> Rule:
    axes = KernelAxes(
        range(rank),
        [-1],
        unless_named="depthwise: tiny kernels, channel by channel",
    )
    return lambda layer: {"kernel": axes}


def _separable(rank: int) -> Rule:
    axes = {
        "depthwise_kernel": KernelAxes(range(rank), [-1]),
        "pointwise_kernel": KernelAxes(range(rank + 1), [-1]),
    }
    return lambda layer: axes


def _recurrent(rank: int) -> Rule:
    axes = KernelAxes(range(rank + 1), [-1])
    return lambda layer: {"kernel": axes, "recurrent_kernel": axes}


def _embedding(layer: Any) -> dict[str, KernelAxes]:
    # No neuron sums over the tokens: they are looked up one at a time.
    axes = KernelAxes([0], [1], unless_named="embedding")
    return {"embeddings": axes, "reverse_embeddings": axes}


_RULES: dict[type, Rule] = {
    layers.Dense: lambda layer: {"kernel": KernelAxes([0], [1])},
    layers.EinsumDense: _einsum,
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

# How many gates share a kernel, one block of its last axis each.
_GATES: dict[type, int] = {
    layers.LSTMCell: 4,
    layers.GRUCell: 3,
    layers.ConvLSTM1D: 4,
    layers.ConvLSTM2D: 4,
    layers.ConvLSTM3D: 4,
}

_NO_KERNELS: dict[type, str] = {
    layers.BatchNormalization: "normalization",
    layers.GroupNormalization: "normalization",
    layers.LayerNormalization: "normalization",
    layers.Normalization: "normalization",
    layers.RMSNormalization: "normalization",
    layers.SpectralNormalization: "normalization",
    layers.PReLU: "activation",
    layers.STFTSpectrogram: "signal transform",
}
