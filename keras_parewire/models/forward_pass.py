"""One forward pass of a model that measures what its kernels give."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.models.kernel_outputs import Product, products_of
from keras_parewire.models.kernels import ClassifiedWeight, Survey
from keras_parewire.models.layer_axes import Skipped
from keras_parewire.models.scale_table import ScaleReport, ScaleRow
from keras_parewire.models.updates import Update
from keras_parewire.models.weights import OwnedWeight
from keras_parewire.rewiring.values import (
    Tensor,
    known_values,
    values_or_none,
)

See = Callable[[keras.layers.Layer, Tensor], None]
TargetOf = Callable[[str], float | None]


class MeasuredKernel:
    """A kernel, and what its outputs have been so far."""

    def __init__(self, weight: OwnedWeight, product: Product) -> None:
        self.layer, self.product = weight.layer, product
        self.variable = weight.variable
        # Read outside its layer, where mixed precision would round it.
        self.values = weight.variable.value
        self.factor: float | None = None
        self.count, self.squares = 0, 0.0
        self.sums: Any = 0.0

    def apply(self, inputs: Tensor, target_of: TargetOf) -> Tensor | None:
        """Returns the outputs, rescaled in the first call; None if traced."""
        # A mean square would overflow in float16.
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        outputs = self.product.apply(
            ops.cast(inputs, dtype), ops.cast(self.variable.value, dtype)
        )
        if 0 in outputs.shape:
            raise ValueError(
                "`x` must hold at least one sample. Received: a batch on which "
                f"{self.variable.path!r} has outputs of shape "
                f"{tuple(outputs.shape)}"
            )
        known = values_or_none(ops.mean(ops.square(outputs)))
        if known is None:
            return None
        square = float(known)
        target = None if self.count else target_of(self.variable.path)
        if target is not None:
            outputs = outputs * self._rescale(math.sqrt(square), target)
            square = target**2
        rank = len(outputs.shape)
        neurons = {axis % rank for axis in self.product.neurons}
        others = [axis for axis in range(rank) if axis not in neurons]
        means = known_values(ops.mean(outputs, axis=others))
        count = math.prod(outputs.shape[axis] for axis in others)
        self.count += count
        self.squares += count * square
        self.sums = self.sums + count * means.astype("float64")
        return outputs

    def _rescale(self, rms: float, target: float) -> float:
        """Rescales the kernel, whose outputs have a root mean square."""
        if rms == target == 0:
            return 1.0
        if not (0 < rms < math.inf and 0 < target < math.inf):
            raise ValueError(
                "The outputs of a kernel, and those of a report, must be "
                "finite and not all 0. Received: a root mean square of "
                f"{rms} for {self.variable.path!r}, to become {target}"
            )
        self.factor = target / rms
        dtype = keras.backend.standardize_dtype(self.values.dtype)
        wide = keras.backend.result_type(dtype, "float32")
        scaled = ops.cast(self.values, wide) * self.factor
        self.values = ops.cast(scaled, dtype)
        self.variable.assign(self.values)
        return self.factor

    def row(self) -> ScaleRow:
        """Returns the kernel's row."""
        square = self.squares / self.count
        constant = float(np.mean((self.sums / self.count) ** 2))
        share = constant / square if square else math.nan
        path = self.variable.path
        return ScaleRow(path, math.sqrt(square), share, self.factor)


def run_forward(
    survey: Survey, x: Any, target_of: TargetOf
) -> tuple[ScaleReport, list[Update]]:
    """Measures all kernels in one forward pass, and rescales them in it.

    `target_of` returns the root mean square that the outputs of the kernel with
    a path get, or None to leave it as it is. The model itself does not change:
    besides a report, this returns the new values of rescaled kernels.
    """
    kernels = _kernels(survey)
    called: dict[int, MeasuredKernel] = {}
    problems: list[ValueError] = []

    def see(layer: keras.layers.Layer, inputs: Tensor) -> None:
        outputs = ops.convert_to_tensor(inputs)
        for kernel in kernels[id(layer)]:
            try:
                outputs = kernel.apply(outputs, target_of)
            except ValueError as error:
                problems.append(error)  # Keras would add to its message.
                return
            if outputs is None:
                return
            called.setdefault(id(kernel.variable), kernel)

    # Within the scope, a model changes no variable, also if an error ends it.
    layers = [found[0].layer for found in kernels.values()]
    try:
        with keras.StatelessScope(), _watched(layers, see):
            survey.model(x, training=False)
    finally:
        for problem in problems:
            raise problem
    rows = [kernel.row() for kernel in called.values()]
    for item in survey.weights:
        if id(item.weight.variable) not in called:
            reason = _reason(item, kernels.get(id(item.weight.layer), []))
            rows.append(ScaleRow(item.weight.variable.path, skipped=reason))
    updates = [
        (kernel.variable, kernel.values)
        for kernel in called.values()
        if kernel.factor is not None
    ]
    return ScaleReport(tuple(rows)), updates


def _kernels(survey: Survey) -> dict[int, list[MeasuredKernel]]:
    """Returns the kernels that can be measured, by the ids of their layers."""
    named: dict[int, dict[str, OwnedWeight]] = {}
    for weight, *_ in survey.weights:
        if not weight.is_quantized:
            names = dict.fromkeys(weight.names, weight)
            named.setdefault(id(weight.layer), {}).update(names)
    kernels = {}
    for number, own in named.items():
        products = products_of(next(iter(own.values())).layer)
        if products and own.keys() >= {product.name for product in products}:
            kernels[number] = [MeasuredKernel(own[x.name], x) for x in products]
    return kernels


def _reason(item: ClassifiedWeight, measured: list[MeasuredKernel]) -> str:
    """Says why a weight is not measured."""
    if any(kernel.variable is item.weight.variable for kernel in measured):
        return "not called on this batch, or in a compiled function"
    if item.reason is None or item.skipped is Skipped.DEPTHWISE:
        return f"outputs of {type(item.weight.layer).__name__} are unknown"
    return item.reason


@contextlib.contextmanager
def _watched(layers: Iterable[keras.layers.Layer], see: See) -> Iterator[None]:
    """Calls `see` on each of these layers and its inputs before its call."""
    # Not by `setattr`, which Keras and PyTorch watch.
    held = [(vars(layer), vars(layer).get("call")) for layer in layers]
    try:
        for layer in layers:
            vars(layer)["call"] = _seen(layer, see)
        yield
    finally:
        for attributes, call in held:
            if call is None:
                attributes.pop("call", None)
            else:
                attributes["call"] = call


def _seen(layer: keras.layers.Layer, see: See) -> Callable[..., Any]:
    call = layer.call

    @functools.wraps(call)
    def see_and_call(*args: Any, **kwargs: Any) -> Any:
        see(layer, next(iter((*args, *kwargs.values()))))
        return call(*args, **kwargs)

    return see_and_call
