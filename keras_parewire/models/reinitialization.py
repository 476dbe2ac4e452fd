"""New weights for a whole model, drawn by initializers."""

import itertools
import math

import keras
import numpy as np

from keras_parewire.initializers.bases import (
    Base,
    InitializerLike,
    draw_from_base,
    resolve_base,
    with_axes,
)
from keras_parewire.initializers.reseeding import with_new_seeds
from keras_parewire.initializers.wrapper import InitializerWrapper
from keras_parewire.models.kernels import (
    ClassifiedWeight,
    classify_weights,
    warn_if_unknown,
)
from keras_parewire.models.layer_axes import einsum_axes
from keras_parewire.models.optimizers import new_state
from keras_parewire.models.recreation import recreate, seeds_of
from keras_parewire.models.selection import Selection
from keras_parewire.models.strength_table import (
    ReportRow,
    StrengthReport,
    kernel_row,
    skipped_row,
    unbuilt_rows,
)
from keras_parewire.models.weights import (
    OwnedWeight,
    Stream,
    Update,
    assign_all,
)
from keras_parewire.rewiring.matrix_view import MatrixView
from keras_parewire.rewiring.seeding import Seed, check_seed, integer_seed
from keras_parewire.rewiring.strengths import view_variance


def reinitialize(
    model: keras.Model | keras.layers.Layer,
    *,
    kernel_initializer: InitializerLike | None = None,
    layers: Selection = None,
    seed: Seed = None,
) -> StrengthReport | None:
    """Redraws every weight of a built model.

    All weights change in place, as if the model had just been built: kernels,
    biases, normalization statistics and all others, each drawn by its own
    initializer, also those that are frozen or pretrained. With
    `kernel_initializer`, it draws the kernels instead.

    Compiled functions stay compiled and see the new weights at once. The
    model's optimizers lose their state (step count and slots, but not the
    learning rate), so that the next training is that of a new model. What a
    layer's `adapt` method has measured stays, and random layers such as dropout
    keep the states of their seeds. If an error is raised, nothing changes.

    Examples:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> # An ensemble of networks that start from different weights:
    >>> ensemble = []
    >>> for member in range(3):
    ...     reinitialize(model, seed=member)
    ...     ensemble.append(model.get_weights())  # After `model.fit`.

    >>> # Other initial kernels for a model that somebody else has written:
    >>> report = reinitialize(
    ...     model, kernel_initializer=PARewired("he_normal"), seed=0
    ... )

    Args:
        model: Built Keras model or layer.
        kernel_initializer: None, or anything that `PARewired` takes as its
            base: every kernel that `rewire_model` would rewire is drawn from
            it, along the true axes of its layer, and each with a seed of its
            own. With the same `seed`, `PARewired(base)` starts from the very
            values that `base` gives. Defaults to None.
        layers: Which layers to reinitialize; see `rewire_model`. Unless it is
            None, optimizers that have trained keep their state.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a random
            one. It replaces the seeds of all initializers: each weight's own is
            derived from it, see `rewire_model`. It does not reach layers that
            draw without a seed from their config, or outside of `add_weight`:
            those draw from Python's global random state, as when they are
            built.

    Returns:
        With `kernel_initializer`, a `StrengthReport` with a row for each weight
        of the model, which gives the reason where a weight was not drawn. None
        otherwise.

    Raises:
        ValueError: If the model has not been built or has no values, `layers`
            selects nothing, a layer is quantized or a PyTorch module, or
            neither a layer nor any layer that holds it can be re-created from
            its config, or an optimizer cannot.
        TypeError: If an argument is of the wrong type.

    Warns:
        UserWarning: If `kernel_initializer` draws nothing, since the layers of
            the model are unknown.
    """
    seed = check_seed(seed)
    if kernel_initializer is not None:
        kernel_initializer, _ = resolve_base(
            kernel_initializer, 0, "kernel_initializer"
        )
    classified = classify_weights(model, layers)
    if kernel_initializer is not None:
        warn_if_unknown(classified, stacklevel=2)
    number = integer_seed(seed)
    by_owner: dict[int, list[ClassifiedWeight]] = {}
    for item in classified:
        by_owner.setdefault(id(item.weight.layer), []).append(item)
    new: dict[int, np.ndarray] = {}
    for owned in by_owner.values():
        first = owned[0].weight
        chosen = [
            item
            for item in owned
            if item.selected and not item.weight.is_measured
        ]
        if not chosen:
            continue
        _check_drawable(first.layer)
        layer_seed = first.seed(number, Stream.REINITIALIZATION)
        recreated = recreate(first.chain, layer_seed)
        for item in chosen:
            variable = item.weight.variable
            values, stream = recreated[id(variable)]
            if kernel_initializer is not None and item.view is not None:
                next_seed = (
                    seeds_of(item.weight.seed(number, Stream.BASE), 0)
                    if stream is None
                    else seeds_of(layer_seed, stream)
                )
                seeded = with_new_seeds(kernel_initializer, next_seed)
                values = _draw(seeded, item.weight, item.view)
            new[id(variable)] = values
    report = None
    if kernel_initializer is not None:
        report = StrengthReport(
            (*(_row(item, new) for item in classified), *unbuilt_rows(model)),
            number,
        )
    updates: list[Update] = [
        (item.weight.variable, new[id(item.weight.variable)])
        for item in classified
        if id(item.weight.variable) in new
    ]
    # The state of an optimizer may depend on the new weights.
    state = new_state(model, keep_trained=layers is not None)
    assign_all(itertools.chain(updates, state))
    return report


def _draw(
    initializer: Base, weight: OwnedWeight, view: MatrixView
) -> np.ndarray:
    """Draws a kernel as Keras would for the weight's layer."""
    axes: tuple[list[int] | None, list[int] | None] = None, None
    if isinstance(weight.layer, keras.layers.EinsumDense):
        known = einsum_axes(weight.layer)
        if known is not None:
            # Keras counts a batch letter among the outputs.
            others = [i for i in range(len(weight.shape)) if i not in known[0]]
            axes = known[0], others
    if isinstance(initializer, InitializerWrapper):
        initializer = initializer.with_view(view, *axes)
    else:
        initializer = with_axes(initializer, *axes)
    values = draw_from_base(initializer, weight.shape, weight.dtype)
    if not isinstance(values, np.ndarray):
        raise ValueError(
            "`kernel_initializer` must draw values, but it is being traced. "
            f"Received: kernel_initializer={initializer!r}"
        )
    return values


def _row(item: ClassifiedWeight, new: dict[int, np.ndarray]) -> ReportRow:
    if item.view is None:
        return skipped_row(item)
    before = item.weight.values()
    after = new[id(item.weight.variable)]
    finite = np.isfinite(before).all()
    return kernel_row(
        item,
        view_variance(before, item.view) if finite else math.nan,
        view_variance(after, item.view),
    )


def _check_drawable(layer: keras.layers.Layer) -> None:
    if isinstance(layer, keras.layers.TorchModuleWrapper):
        raise ValueError(
            "To be reinitialized, a layer must have an initializer for its "
            "weights; those of a PyTorch module are copied from it. "
            f"Received: layer {layer.name!r} of type {type(layer).__name__}"
        )
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        raise ValueError(
            "To be reinitialized, a layer must not be quantized: no "
            "initializer draws quantized weights. Received: "
            f"layer {layer.name!r} with quantization_mode={mode!r}"
        )
