"""The plan of the model functions: how to read each weight, or why to skip it.

All of them use it, so that they agree on which weights are kernels.
"""

from typing import NamedTuple

import keras

from keras_parewire.models.kernel_axes import find_axes, reason_without_axes
from keras_parewire.models.layer_axes import KernelAxes, Skipped
from keras_parewire.models.selection import Selection, selector
from keras_parewire.models.weights import OwnedWeight, owned_weights
from keras_parewire.rewiring.layouts import Layout, grouped_layout


class PlannedWeight(NamedTuple):
    """The plan for one weight of a model.

    Attributes:
        weight: The weight and the layer that owns it.
        selected: Whether the `layers` argument selects it.
        layout: How it is read as matrices; None if it is skipped.
        skipped: Why it is skipped; None if it is not.
    """

    weight: OwnedWeight
    selected: bool
    layout: Layout | None
    skipped: Skipped | None

    @property
    def reason(self) -> str | None:
        """Why the weight is skipped, in words; None if it is not."""
        if self.skipped is None:
            return None
        layer = self.weight.layer
        # Keras packs int4 into int8.
        mode = getattr(layer, "quantization_mode", None) or self.weight.dtype
        return self.skipped.value.format(layer=type(layer).__name__, dtype=mode)


def kernel_plan(
    model: keras.Model | keras.layers.Layer,
    layers: Selection = None,
    per_gate: bool = False,
) -> list[PlannedWeight]:
    """Plans how to read each weight of a model, or why to skip it."""
    weights = owned_weights(model)
    select = selector(model, layers)
    plan = []
    for weight in weights:
        selected, by_itself = select(weight)
        axes = find_axes(weight.chain, weight.variable.name, per_gate)
        skipped: Skipped | None
        layout = None
        if axes is None:
            skipped = reason_without_axes(
                weight.layer, weight.variable.name, len(weight.variable.shape)
            )
        elif not selected:
            skipped = Skipped.NOT_SELECTED
        elif weight.is_quantized:
            skipped = Skipped.QUANTIZED
        elif by_itself:
            skipped = None
        else:
            skipped = axes.skipped_by_default
        if axes is not None and skipped is None:
            layout = _layout(weight, axes)
        plan.append(PlannedWeight(weight, selected, layout, skipped))
    return plan


def _layout(weight: OwnedWeight, axes: KernelAxes) -> Layout:
    try:
        return grouped_layout(
            weight.shape, axes.input_axes, axes.output_axes, axes.groups
        )
    except (TypeError, ValueError) as error:
        # Say which of the registered axes are wrong.
        raise type(error)(
            f"{error}, for the weight {weight.variable.path!r}"
        ) from error
