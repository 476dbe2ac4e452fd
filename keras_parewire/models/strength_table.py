"""The strengths of a model's kernels, as a table."""

from dataclasses import dataclass
from typing import TypeAlias

import keras

from keras_parewire.models.kernels import Survey, survey_model
from keras_parewire.models.layer_axes import Skipped
from keras_parewire.rewiring.strengths import view_variance
from keras_parewire.rewiring.values import check_finite, known_values
from keras_parewire.tables import WeightTable

# The strength variances before and after and the remark, by the weight's place.
Measured: TypeAlias = dict[int, tuple[float, float, str | None]]


@dataclass(frozen=True)
class ReportRow:
    """One weight of a model, see `StrengthReport`."""

    path: str
    shape: tuple[int, ...] | None
    inputs: int | None = None
    outputs: int | None = None
    groups: int | None = None
    before: float | None = None
    after: float | None = None
    skipped: str | None = None
    remark: str | None = None


@dataclass(frozen=True, repr=False)
class StrengthReport(WeightTable[ReportRow]):
    """The strength variance of each kernel of a model; prints as a table.

    Iterating over it, or indexing it, gives one row for each weight of the
    model, then one for each layer in it that has not been built:

    - `path`: the weight's path in the model, or the layer's;
    - `shape`: its shape, or None for a layer;
    - `inputs`, `outputs`: the numbers of neurons on the two sides of the
        kernel, or of one of its groups;
    - `groups`: how many independent matrices the kernel holds, usually 1;
    - `before`, `after`: the strength variance, as `strength_variance` computes
        it, averaged over the groups; equal if nothing was rewired;
    - `skipped`: why the weight was left alone, or None. The row of such a
        weight has only a path and a shape;
    - `remark`: None, or how the rewiring fell short: the strength variance
        rose, or did not fall by a factor of 2. A larger `exponent` helps where
        neurons are few, or weights small against the 1 that the rule adds.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> report = rewire_model(model, seed=0)
    >>> report[0].inputs, report[0].outputs, report[0].skipped
    (64, 32, None)
    >>> report[0].after < report[0].before
    True
    >>> report[1].skipped
    'bias'

    Attributes:
        rows: The rows, as a tuple.
        seed: The seed that reproduces the result, or None if nothing was drawn.
    """

    _columns = "path shape inputs outputs groups before after remark"
    _note = "before, after: strength variance"

    seed: int | None


def strength_report(model: keras.Model | keras.layers.Layer) -> StrengthReport:
    """Measures the strength variance of every kernel of a built model.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> for row in strength_report(model):
    ...     print(row.path.split("/")[-1], row.shape, row.skipped)
    kernel (64, 32) None
    bias (32,) bias

    Args:
        model: Built Keras model or layer. It does not change.

    Returns:
        A `StrengthReport` of the current weights.

    Raises:
        ValueError: If the model has not been built or has no values, or a
            kernel holds NaN or infinite weights.
        TypeError: If `model` is not a Keras model or layer.
    """
    survey = survey_model(model)
    measured: Measured = {}
    for item in survey.weights:
        if item.view is not None:
            values = known_values(item.weight.variable)
            check_finite(values, item.weight.variable.path)
            variance = view_variance(values, item.view)
            measured[item.weight.place] = variance, variance, None
    return make_report(survey, measured, None)


def make_report(
    survey: Survey, measured: Measured, seed: int | None
) -> StrengthReport:
    """Returns the report on the kernels that were measured."""
    rows = []
    for item in survey.weights:
        path, shape = item.weight.variable.path, item.weight.shape
        if item.view is None:
            rows.append(ReportRow(path, shape, skipped=item.reason))
            continue
        groups, inputs, outputs = item.view.stack_shape
        before, after, remark = measured[item.weight.place]
        sides = inputs, outputs, groups
        rows.append(
            ReportRow(path, shape, *sides, before, after, remark=remark)
        )
    for path in survey.unbuilt:
        rows.append(ReportRow(path, None, skipped=Skipped.NOT_BUILT.value))
    return StrengthReport(tuple(rows), seed)
