"""The scale of what each kernel of a model gives on a batch, and setting it."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import keras

from keras_parewire.models.forward_pass import run_forward
from keras_parewire.models.kernels import survey_model
from keras_parewire.models.scale_table import ScaleReport
from keras_parewire.models.updates import (
    assign_all,
    check_no_steps,
    updates_that_reset,
)
from keras_parewire.rewiring.validation import check_positive

Target: TypeAlias = float | Mapping[str, float] | ScaleReport


def output_scales(
    model: keras.Model | keras.layers.Layer, x: Any
) -> ScaleReport:
    """Measures what each kernel of a built model gives on a batch.

    Kernels of one variance can have outputs whose scales differ many times
    over: neighboring pixels are alike, and what comes out of a ReLU is
    positive, so a filter whose weights add up to little has small outputs. This
    alone changes how fast a network learns; see `rescale_model`.

    It takes one forward pass in inference mode, and changes nothing. Dense and
    `EinsumDense` layers, with them attention layers, and all convolutions are
    measured, unless a compiled function or a loop of the backend calls them.
    Masked positions count. A batch normalization uses the statistics that it
    holds: before training these are 0 and 1, and it normalizes nothing.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> images = keras.random.uniform((100, 64), seed=0)
    >>> for row in output_scales(model, images):
    ...     print(row.path.split("/")[-1], row.rms is None, row.skipped)
    kernel False None
    bias True bias

    Args:
        model: Built Keras model or layer.
        x: A batch of inputs as the model takes it.

    Returns:
        A `ScaleReport`.

    Raises:
        ValueError: If the model has not been built or has no values.
        TypeError: If `model` is not a Keras model or layer.
    """
    return run_forward(survey_model(model), x, lambda path: None)[0]


def rescale_model(
    model: keras.Model | keras.layers.Layer, x: Any, to: Target = 1.0
) -> ScaleReport:
    """Rescales each kernel so that its outputs on a batch have a given scale.

    It multiplies each kernel in place by one positive factor, layer by layer in
    one forward pass in inference mode, each on what the rescaled layers before
    it give. What `output_scales` skips stays as it is. If an error is raised,
    nothing changes.

    With the scales of another start, it takes the difference between two starts
    apart. Here, all that is left between `model` and a rewired one is the
    wiring:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> rewired = keras.models.clone_model(model)
    >>> rewired.set_weights(model.get_weights())
    >>> report = rewire_model(rewired, seed=0)
    >>> images = keras.random.uniform((100, 64), seed=0)
    >>> report = rescale_model(model, images, output_scales(rewired, images))

    After `reinitialize(model, kernel_initializer="orthogonal")`, the default
    `to=1.0` is LSUV (Mishkin and Matas, 2016), but that it sets the mean square
    of the outputs, not their variance, and without biases.

    Args:
        model: Built Keras model or layer that has not been trained.
        x: A batch of inputs as the model takes it: a tensor or array, or a list
            or dict of several.
        to: The root mean square that a kernel's outputs get: a positive number
            for all kernels, a dict of numbers by path, which leaves all others
            as they are, or a `ScaleReport`. Defaults to 1. A kernel whose layer
            is called several times is rescaled at its first call.

    Returns:
        A `ScaleReport` of the rescaled model, with the factors.

    Raises:
        ValueError: If a target is not a positive number or its path is not that
            of a kernel that is measured, a kernel's outputs are all 0, NaN or
            infinite, or the model has not been built, has no values or has
            been trained by one of its optimizers.
        TypeError: If an argument is of the wrong type.

    Reference:

    - [Mishkin and Matas, 2016](https://arxiv.org/abs/1511.06422)
    """
    targets: dict[str, Iterator[float | None]] = {}
    others: Iterator[float | None] = itertools.repeat(None)
    if isinstance(to, ScaleReport):
        # Several kernels may have one path; they are called in the same order.
        for path in {row.path for row in to if row.rms is not None}:
            targets[path] = iter([row.rms for row in to if row.path == path])
    elif isinstance(to, Mapping):
        for path, rms in to.items():
            rms = check_positive(rms, f"to[{path!r}]")
            targets[path] = itertools.repeat(rms)
    else:
        others = itertools.repeat(check_positive(to, "to"))
    survey = survey_model(model)
    check_no_steps(survey)
    report, updates = run_forward(
        survey, x, lambda path: next(targets.get(path, others), None)
    )
    measured = [row.path for row in report if row.skipped is None]
    if not targets.keys() <= set(measured):
        raise ValueError(
            "`to` must name kernels that `output_scales` measures, which are "
            f"{measured}. Received: {[x for x in targets if x not in measured]}"
        )
    assign_all(itertools.chain(updates, updates_that_reset(survey)))
    return report
