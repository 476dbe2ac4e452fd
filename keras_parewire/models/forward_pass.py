"""One forward pass of a model that measures what its kernels give."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.models.kernel_outputs import Product, products_of
from keras_parewire.models.kernels import ClassifiedWeight, Survey
from keras_parewire.models.layer_axes import Skipped
from keras_parewire.models.scale_table import ScaleReport, ScaleRow
from keras_parewire.models.weights import Update
from keras_parewire.rewiring.values import (
    Tensor,
    known_values,
    values_or_none,
)

See = Callable[[keras.layers.Layer, Tensor], None]


class MeasuredKernel:
    """A kernel, and what its outputs have been so far."""

    def __init__(self, variable: keras.Variable, product: Product) -> None:
        self.variable = variable
        self.product = product
        # Read outside its layer, where mixed precision would round it.
        self.values = variable.value
        self.factor: float | None = None
        self.count = 0
        self.squares = 0.0
        self.sums: Any = 0.0

    def apply(self, inputs: Tensor, target: float | None) -> Tensor | None:
        """Returns the outputs, in the first call rescaled to a target.

        Returns None if they have no values, since they are being traced.
        """
        # A mean square would overflow in float16.
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        outputs = self.product.apply(
            ops.cast(inputs, dtype), ops.cast(self.variable.value, dtype)
        )
        known = values_or_none(ops.mean(ops.square(outputs)))
        if known is None:
            return None
        square = float(known)
        if target is not None and not self.count:
            self._rescale(target / self._checked(math.sqrt(square)))
            outputs = outputs * self.factor
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

    def _checked(self, rms: float) -> float:
        if not 0 < rms < math.inf:
            raise ValueError(
                "The outputs of a kernel must be finite and not all 0 to be "
                f"rescaled. Received: a root mean square of {rms} for "
                f"{self.variable.path!r}"
            )
        return rms

    def _rescale(self, factor: float) -> None:
        dtype = keras.backend.standardize_dtype(self.values.dtype)
        wide = keras.backend.result_type(dtype, "float32")
        self.factor = factor
        self.values = ops.cast(ops.cast(self.values, wide) * factor, dtype)
        self.variable.assign(self.values)

    def row(self) -> ScaleRow:
        """Returns the kernel's row."""
        square = self.squares / self.count
        constant = float(np.mean((self.sums / self.count) ** 2))
        share = constant / square if square else math.nan
        path = self.variable.path
        return ScaleRow(path, math.sqrt(square), share, self.factor)


def run_forward(
    survey: Survey,
    x: Any,
    targets: float | Mapping[str, float] | None = None,
) -> tuple[ScaleReport, list[Update]]:
    """Measures all kernels in one forward pass, and rescales them in it.

    The model itself does not change.

    Args:
        survey: The model.
        x: A batch of inputs.
        targets: The root mean squares, alike for all kernels or by path; None
            to rescale nothing.

    Returns:
        A report, and the new values of the kernels that are rescaled.
    """
    classified = survey.weights
    kernels = _kernels(classified)
    called: dict[int, MeasuredKernel] = {}

    def see(layer: keras.layers.Layer, inputs: Tensor) -> None:
        outputs = ops.convert_to_tensor(inputs)
        for kernel in kernels[id(layer)]:
            if isinstance(targets, Mapping):
                target = targets.get(kernel.variable.path)
            else:
                target = targets
            outputs = kernel.apply(outputs, target)
            if outputs is None:
                return
            called.setdefault(id(kernel.variable), kernel)

    owners = [
        i.weight.layer for i in classified if id(i.weight.layer) in kernels
    ]
    # Within the scope, a model changes no variable, also if an error ends it.
    with keras.StatelessScope(), _watched(owners, see):
        survey.model(x, training=False)
    rows = [kernel.row() for kernel in called.values()]
    for item in classified:
        if id(item.weight.variable) not in called:
            reason = _reason(item, kernels)
            rows.append(ScaleRow(item.weight.variable.path, skipped=reason))
    updates = [
        (kernel.variable, kernel.values)
        for kernel in called.values()
        if kernel.factor is not None
    ]
    return ScaleReport(tuple(rows)), updates


def _kernels(
    classified: list[ClassifiedWeight],
) -> dict[int, list[MeasuredKernel]]:
    """Returns the kernels that can be measured, by the ids of their layers."""
    kernels = {}
    for layer in {
        id(i.weight.layer): i.weight.layer for i in classified
    }.values():
        own = {
            name: item.weight
            for item in classified
            for name in item.weight.names
            if item.weight.layer is layer and not item.weight.is_quantized
        }
        products = products_of(layer)
        if products and all(product.name in own for product in products):
            kernels[id(layer)] = [
                MeasuredKernel(own[product.name].variable, product)
                for product in products
            ]
    return kernels


def _reason(
    item: ClassifiedWeight, kernels: Mapping[int, list[MeasuredKernel]]
) -> str:
    """Says why a weight is not measured."""
    weight = item.weight
    measured = kernels.get(id(weight.layer), [])
    if any(kernel.variable is weight.variable for kernel in measured):
        return "not called on this batch, or in a compiled function"
    if item.reason is None or item.skipped is Skipped.DEPTHWISE:
        return f"outputs of {type(weight.layer).__name__} are unknown"
    return item.reason


@contextlib.contextmanager
def _watched(owners: Iterable[keras.layers.Layer], see: See) -> Iterator[None]:
    """Calls `see` on each of these layers and its inputs before its call."""
    with contextlib.ExitStack() as stack:
        for layer in {id(layer): layer for layer in owners}.values():
            # Not by `setattr`, which Keras and PyTorch watch.
            attributes = vars(layer)
            if "call" in attributes:
                undo = functools.partial(
                    attributes.__setitem__, "call", attributes["call"]
                )
            else:
                undo = functools.partial(attributes.pop, "call")
            attributes["call"] = _seen(layer, see)
            stack.callback(undo)
        yield


def _seen(layer: keras.layers.Layer, see: See) -> Callable[..., Any]:
    call = layer.call

    @functools.wraps(call)
    def see_and_call(*args: Any, **kwargs: Any) -> Any:
        see(layer, next(iter((*args, *kwargs.values()))))
        return call(*args, **kwargs)

    return see_and_call
