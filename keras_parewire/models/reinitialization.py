"""New weights for a whole model, drawn by initializers."""

import itertools

import keras
import numpy as np

from keras_parewire.initializers.bases import InitializerLike, resolve_base
from keras_parewire.models.kernels import (
    Selection,
    survey_model,
    warn_if_unknown,
)
from keras_parewire.models.redrawing import draw_kernel, redraw
from keras_parewire.models.strength_table import (
    Measured,
    StrengthReport,
    make_report,
)
from keras_parewire.models.updates import (
    Update,
    assign_all,
    updates_that_reset,
)
from keras_parewire.models.weights import Stream
from keras_parewire.rewiring import seeding
from keras_parewire.rewiring.strengths import view_variance
from keras_parewire.rewiring.values import known_values


def reinitialize(
    model: keras.Model | keras.layers.Layer,
    *,
    kernel_initializer: InitializerLike | None = None,
    layers: Selection = None,
    seed: seeding.Seed = None,
) -> StrengthReport | None:
    """Redraws every weight of a built model.

    All weights change in place, as if the model had just been built, also those
    that are frozen or pretrained: each is drawn by its own initializer. With
    `kernel_initializer`, it draws the kernels instead.

    Compiled functions stay compiled and see the new weights at once. Optimizers
    (except for their learning rates), metrics and the random states of layers
    such as dropout become new too, so that the next training depends on the
    seed alone, as far as Keras knows. What a layer's `adapt` method has
    measured stays. If an error is raised, nothing changes.

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
            None, metrics, random states and optimizers that have trained stay.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a random
            one. It replaces the seeds of all initializers; each weight's own
            depends on its place in the model. It does not reach layers that
            draw values without an initializer.

    Returns:
        With `kernel_initializer`, a `StrengthReport`, which gives the reason
        where a weight was not drawn from it. None otherwise.

    Raises:
        ValueError: If the model has no weights or they have no values, `layers`
            selects nothing, or a layer can neither be re-created from its
            config nor has attributes `<weight>_initializer`, or is quantized.
        TypeError: If an argument is of the wrong type.

    Warns:
        UserWarning: If `kernel_initializer` draws nothing, since the layers of
            the model are unknown, or variables that were set from outside keep
            their values.
    """
    seed = seeding.check_seed(seed)
    if kernel_initializer is not None:
        kernel_initializer, _ = resolve_base(
            kernel_initializer, 0, "kernel_initializer"
        )
    survey = survey_model(model, layers)
    if kernel_initializer is not None:
        warn_if_unknown(survey.weights, stacklevel=2)
    number = seeding.integer_seed(seed)
    new: dict[int, np.ndarray] = {}
    measured: Measured = {}
    others = []
    for item in survey.weights:
        place, view = item.weight.place, item.view
        if view is not None and kernel_initializer is not None:
            old = known_values(item.weight.variable)
            new[place] = draw_kernel(kernel_initializer, item, number)
            with np.errstate(all="ignore"):  # Its training may have diverged.
                before = view_variance(old, view)
                after = view_variance(new[place], view)
            measured[place] = before, after, None
        elif item.selected and not item.weight.is_adapted:
            others.append(item.weight)
    new |= redraw(others, number, stacklevel=2)
    updates: list[Update] = [
        (item.weight.variable, new[item.weight.place])
        for item in survey.weights
        if item.weight.place in new
    ]
    if layers is None:
        for count, generator in enumerate(survey.generators):
            start = seeding.derive_seed(number, count, Stream.RANDOM_LAYER)
            updates.append((generator.state, np.array([start, 0])))
    # The state of an optimizer may depend on the new weights.
    state = updates_that_reset(survey, keep_trained=layers is not None)
    if layers is None:  # First, since a metric of the user's own may fail.
        for metric in model.metrics:
            metric.reset_state()
    assign_all(itertools.chain(updates, state))
    if kernel_initializer is None:
        return None
    return make_report(survey, measured, number)
