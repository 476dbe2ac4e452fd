"""The strengths of a model's kernels, as a table."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import keras

from keras_parewire.models.kernels import Survey, survey_model
from keras_parewire.models.layer_axes import Skipped
from keras_parewire.rewiring.strengths import view_variance

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
class StrengthReport:
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
        rose, or did not fall by a factor of 2.

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

    rows: tuple[ReportRow, ...]
    seed: int | None

    def __iter__(self) -> Iterator[ReportRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ReportRow:
        return self.rows[index]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a dict of plain values that JSON can hold."""
        return {"seed": self.seed, "rows": [asdict(row) for row in self.rows]}

    def __repr__(self) -> str:
        kernels = sum(row.skipped is None for row in self.rows)
        return (
            f"<StrengthReport of {kernels} kernels, "
            f"{len(self.rows) - kernels} skipped; print it for the table>"
        )

    def __str__(self) -> str:
        done = [row for row in self.rows if row.skipped is None]
        lines = aligned([_HEADER, *map(_cells, done)])
        lines.append(f"{len(done)} kernels; before, after: strength variance")
        remarks = Counter(row.remark for row in done if row.remark)
        lines += [f"* {count}: it {why}" for why, count in remarks.items()]
        reasons = Counter(row.skipped for row in self.rows if row.skipped)
        if reasons:
            skipped = (f"{count} {why}" for why, count in reasons.items())
            lines.append(f"skipped: {', '.join(skipped)}")
        return "\n".join(lines)


_HEADER = (*"kernel shape inputs outputs groups before after".split(), "")


def _cells(row: ReportRow) -> tuple[str, ...]:
    return (
        row.path,
        str(row.shape).replace(" ", ""),
        *map(str, (row.inputs, row.outputs, row.groups)),
        *(f"{variance:.3g}" for variance in (row.before, row.after)),
        "*" if row.remark else "",
    )


def aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Joins the cells of each row: words aligned left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        both = list(zip(cells, widths, strict=True))
        words = [cell.ljust(width) for cell, width in both[:2]]
        numbers = [cell.rjust(width) for cell, width in both[2:]]
        lines.append("  ".join(words + numbers).rstrip())
    return lines


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
        A `StrengthReport` of the current weights, a table like that of
        `rewire_model`.

    Raises:
        ValueError: If the model has not been built or has no values, or a
            kernel holds NaN or infinite weights.
        TypeError: If `model` is not a Keras model or layer.
    """
    survey = survey_model(model)
    measured: Measured = {}
    for item in survey.weights:
        if item.view is not None:
            values = item.weight.finite_values()
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
