"""Rewiring of whole models, in place."""

import itertools
import math

import keras
import numpy as np

from keras_parewire.models.kernels import (
    Selection,
    survey_model,
    warn_if_unknown,
)
from keras_parewire.models.strength_table import (
    Measured,
    StrengthReport,
    make_report,
)
from keras_parewire.models.updates import (
    Update,
    assign_all,
    check_no_steps,
    updates_that_reset,
    warn_if_trained,
)
from keras_parewire.models.weights import Stream
from keras_parewire.rewiring import seeding
from keras_parewire.rewiring.matrix_view import MatrixView
from keras_parewire.rewiring.rewire import host_rewire
from keras_parewire.rewiring.strengths import view_variance
from keras_parewire.rewiring.validation import check_exponent
from keras_parewire.rewiring.values import check_finite, known_values


def rewire_model(
    model: keras.Model | keras.layers.Layer,
    *,
    exponent: float = 1.0,
    layers: Selection = None,
    seed: seeding.Seed = None,
    verbose: int = 0,
) -> StrengthReport:
    """Rewires every kernel of a built model by preferential attachment (PA).

    It rewires each kernel in place, along the true axes of its layer; see
    `PARewired` for the rule. Compiled functions see the new weights at once.
    Biases, normalization weights, embeddings, depthwise and quantized kernels,
    and the weights of unknown layers (see `register_axes`) stay as they are;
    the report says why. Groups of a kernel, as in a convolution with `groups`,
    are rewired separately. If an error is raised, nothing changes.

    Example:

    >>> model = keras.applications.MobileNetV2(
    ...     weights=None, input_shape=(32, 32, 3)
    ... )
    >>> report = rewire_model(model, seed=0)
    >>> sum(row.skipped is None for row in report)
    36

    Args:
        model: Built Keras model or layer that has not been trained. To draw
            its kernels first, see `reinitialize`.
        exponent: Number, 0 or more, the exponent of the attachment probability;
            see `PARewired`. Defaults to 1, the paper's rule.
        layers: Which layers to rewire. None for all; or a function of the layer
            that owns a kernel (in an attention layer, one of its `EinsumDense`
            projections; in a recurrent layer, its cell) that says whether to
            rewire it; or a list of layers, names of layers, paths of weights
            and regular expressions for whole names or paths, such as
            `"block.*_conv"`. A layer includes all layers inside it. Embeddings
            and depthwise kernels are rewired only if their own layer is in the
            list, as an object or by its exact name.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a random
            one. Each kernel has its own stream, by its place in the model.
        verbose: 0 for silence, 1 for a progress bar, 2 for a single line, as in
            `keras.Model.fit`. Defaults to 0.

    Returns:
        A `StrengthReport` with a row for each weight of the model.

    Raises:
        ValueError: If the model has not been built, has no values or has been
            trained by one of its optimizers, `layers` selects nothing, a kernel
            holds NaN or infinite weights, or an argument is out of range.
        TypeError: If an argument is of the wrong type.

    Warns:
        UserWarning: If weights such as biases have changed, as by training,
            which rewiring undoes; or if no layer is known.

    Reference:

    - [Scabini et al., 2024](https://arxiv.org/abs/2207.08148), Neurocomputing
    """
    exponent = check_exponent(exponent)
    seed = seeding.check_seed(seed)
    survey = survey_model(model, layers)
    warn_if_unknown(survey.weights, stacklevel=2)
    check_no_steps(survey)
    warn_if_trained(survey, stacklevel=2)
    number = seeding.integer_seed(seed)
    kernels = [(i.weight, i.view) for i in survey.weights if i.view is not None]
    total = sum(math.prod(weight.shape) for weight, _ in kernels)
    bar = keras.utils.Progbar(total, verbose=verbose, unit_name="weight")
    measured: Measured = {}
    updates: list[Update] = []
    for weight, view in kernels:
        values = known_values(weight.variable)
        check_finite(values, weight.variable.path)
        own = seeding.derive_seed(number, weight.place, Stream.REWIRING)
        rewired = host_rewire(values, view, exponent, seeding.integer_key(own))
        updates.append((weight.variable, rewired))
        before, after = (view_variance(x, view) for x in (values, rewired))
        _, rows, columns = view.stack_shape
        chance = float(np.var(values, dtype=float)) * (rows + columns) / 2
        remark = _remark(before, after, chance, exponent, view)
        measured[weight.place] = before, after, remark
        bar.add(values.size)
    # Assign only when all are computed: an error leaves the model as it was.
    assign_all(itertools.chain(updates, updates_that_reset(survey)))
    return make_report(survey, measured, number)


def _remark(
    before: float,
    after: float,
    chance: float,
    exponent: float,
    view: MatrixView,
) -> str | None:
    """Says how the rewiring of a kernel fell short, and why; None if not.

    `chance` is the strength variance of independent weights.
    """
    if min(view.stack_shape[1:]) == 1:
        return "did not change: a single neuron on one side"
    # Exponent 0 is a shuffle, which is not meant to lower the variance.
    if exponent == 0 or after < before / 2 or before == 0:
        return None
    how = "rose" if after > before else "fell little"
    if before < chance / 3:
        return f"{how}: was low before"
    if math.isinf(exponent):
        return f"{how}: few neurons"
    return f"{how}: few neurons or small weights; try a larger `exponent`"
