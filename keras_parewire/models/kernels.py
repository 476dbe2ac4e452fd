"""Which weights of a model are kernels, and how each is read as matrices.

All functions for whole models use this, so that they agree.
"""

import warnings
from typing import NamedTuple

import keras

from keras_parewire.models.kernel_axes import find_axes, reason_without_axes
from keras_parewire.models.layer_axes import KernelAxes, Skipped
from keras_parewire.models.selection import Selection, selector
from keras_parewire.models.weights import OwnedWeight, owned_weights
from keras_parewire.rewiring.matrix_view import MatrixView, matrix_view


class ClassifiedWeight(NamedTuple):
    """A weight of a model: a kernel, or skipped for a reason.

    Attributes:
        weight: The weight and the layer that owns it.
        selected: Whether the `layers` argument selects it.
        view: How it is read as matrices; None if it is skipped.
        skipped: Why it is skipped; None if it is not.
    """

    weight: OwnedWeight
    selected: bool
    view: MatrixView | None
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


def classify_weights(
    model: keras.Model | keras.layers.Layer, layers: Selection = None
) -> list[ClassifiedWeight]:
    """Says of each weight of a model how to read it, or why it is skipped."""
    weights = owned_weights(model)
    select = selector(model, layers)
    classified = []
    for weight in weights:
        selected, by_itself = select(weight)
        axes = find_axes(weight)
        view = None
        if axes is None:
            skipped: Skipped | None = reason_without_axes(weight)
        else:
            skipped = _reason_with_axes(weight, axes, selected, by_itself)
            if skipped is None:
                view = _view(weight, axes)
        classified.append(ClassifiedWeight(weight, selected, view, skipped))
    if not any(item.selected for item in classified):
        owners = {type(weight.layer).__name__ for weight in weights}
        raise ValueError(
            "`layers` must select layers that have weights. Received: "
            f"layers={layers!r}, which selects none of the layers that own "
            f"some, of type {', '.join(sorted(owners))}"
        )
    return classified


def warn_if_unknown(
    classified: list[ClassifiedWeight], stacklevel: int
) -> None:
    """Warns if a model has no kernels because its layers are unknown."""
    unknown = {
        type(item.weight.layer).__name__
        for item in classified
        if item.selected
        and item.skipped in (Skipped.UNKNOWN_LAYER, Skipped.OTHER_RANK)
    }
    if unknown and all(item.view is None for item in classified):
        warnings.warn(
            "None of the weights is a kernel of a known layer, so nothing is "
            "changed. To name the axes of a layer's kernels, see "
            "`keras_parewire.register_axes`. Received: weights of "
            f"{', '.join(sorted(unknown))}",
            stacklevel=stacklevel + 1,
        )


def _reason_with_axes(
    weight: OwnedWeight, axes: KernelAxes, selected: bool, by_itself: bool
) -> Skipped | None:
    if not selected:
        return Skipped.NOT_SELECTED
    if weight.is_quantized:
        return Skipped.QUANTIZED
    if axes.rank not in (None, len(weight.shape)):
        return Skipped.OTHER_RANK
    return None if by_itself else axes.skipped_by_default


def _view(weight: OwnedWeight, axes: KernelAxes) -> MatrixView:
    try:
        return matrix_view(
            weight.shape, axes.input_axes, axes.output_axes, axes.groups
        )
    except (TypeError, ValueError) as error:
        # Say which of the registered axes are wrong.
        raise type(error)(
            f"{error}, for the weight {weight.variable.path!r}"
        ) from error
