"""The report of a study, in Markdown."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from keras_parewire.studies.sentences import (
    failures,
    power_sentence,
    repetitions,
    verdict,
)
from keras_parewire.studies.statistics import (
    Columns,
    Comparison,
    adjust,
    columns,
    compare_paired,
    repeated_arms,
)
from keras_parewire.studies.tables import comparison_table, summary_table

NOTES = """\
Means ± standard deviation over n seeds. Differences are paired by seed, with
bootstrap percentile intervals of 95 % and Wilcoxon's signed-rank test. The
intervals are not corrected for the number of comparisons: some miss 0 by
chance. p (Holm) is corrected for all comparisons of a metric."""


def report(
    rows: Sequence[Mapping[str, Any]],
    arms: Sequence[str],
    difference: float | Mapping[str, float] | None = None,
) -> str:
    """Returns the report of a study; see `Study.report`.

    Args:
        rows: Rows as `Rows` yields them.
        arms: The names of the arms, with the reference first.
        difference: One size for all metrics, a dict of sizes by metric, or
            None.
    """
    found = columns(rows, arms)
    metrics = list(found[arms[0]])
    sizes = _check_difference(difference, metrics)
    identity = rows[0]["identity"]
    lines = ["# Study", "", _facts(identity["environment"]) + "."]
    if identity["config"]:
        lines += ["", _facts(identity["config"]) + "."]
    lines += ["", NOTES, "", *summary_table(found, rows)]
    lines += [*failures(rows), *repetitions(found)]
    comparisons = compare(found)
    if comparisons:
        lines += ["", *comparison_table(comparisons), ""]
        lines += [f"- {verdict(item)}" for item in comparisons]
        lines += ["", "## How many seeds", ""]
        lines += [
            f"- {power_sentence(found, item, sizes.get(item['metric']))}"
            for item in comparisons
        ]
    return "\n".join(lines) + "\n"


def compare(found: Columns) -> list[Comparison]:
    """Compares every arm with the first, in every metric.

    Args:
        found: Values by arm, metric and seed.

    Returns:
        A list of comparisons, as of `compare_paired`, each with the names of
        its `arm`, `reference` and `metric`, with `p_holm`, and with `repeated`,
        the names of those of the two arms whose runs are all the same.
    """
    reference = next(iter(found))
    repeated = repeated_arms(found)
    comparisons = []
    for arm in list(found)[1:]:
        same = [name for name in (arm, reference) if name in repeated]
        for metric, values in found[arm].items():
            item = compare_paired(values, found[reference].get(metric, {}))
            if item is not None:
                names = {"arm": arm, "reference": reference, "metric": metric}
                comparisons.append({**names, **item, "repeated": same})
    return adjust(comparisons)


def _facts(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in facts.items())


def _check_difference(difference: Any, metrics: list[str]) -> dict[str, float]:
    if difference is None:
        return {}
    sizes = difference
    if not isinstance(difference, Mapping):
        sizes = dict.fromkeys(metrics, difference)
    for name, size in sizes.items():
        if name not in metrics:
            raise ValueError(
                f"`difference` must name metrics of the study, {metrics}. "
                f"Received: difference={difference!r}"
            )
        if (
            isinstance(size, bool)
            or not isinstance(size, numbers.Real)
            or not 0 < float(size) < math.inf
        ):
            raise ValueError(
                "`difference` must be a positive number, or a dict of them. "
                f"Received: difference={difference!r}"
            )
    return {name: float(size) for name, size in sizes.items()}
