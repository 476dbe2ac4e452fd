"""The report of a study, in Markdown."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_parewire.studies import statistics
from keras_parewire.studies.statistics import Comparison, Values
from keras_parewire.tables import aligned, one_line, significant

NOTES = """\
Means ± standard deviations over the runs of an arm. Differences are means over
the seeds of which both arms have a run, and effects are in standard deviations
of these differences. The intervals of a metric are valid for all arms together
and after any number of seeds: in at least 95 % of studies, every interval
contains the true difference."""
EXPLORATORY = """\
There are no verdicts on these metrics: among many, some differ by chance."""


class Report(str):
    """Text in Markdown, which a notebook renders."""

    def _repr_markdown_(self) -> str:
        return str(self)


def report(
    rows: Sequence[Mapping[str, Any]],
    arms: Sequence[str],
    metric: str | None = None,
    margin: float | None = None,
) -> Report:
    """Returns the report of a study; see `Study.report`."""
    values = statistics.columns(rows, arms)
    found = statistics.compare(values, metric=metric, margin=margin)
    primary = [item for item in found if item.verdict is not None]
    lines = ["# Study", "", *failures(rows)]
    for item in primary:
        lines += [f"- {sentence(item, values, len(primary), margin)}"]
    names = [item.metric for item in found] or values[arms[0]]
    metrics = list(dict.fromkeys(names))
    if metrics:
        lines += ["", *_table(values, found, metrics[:1]), "", NOTES]
    if metrics[1:]:
        lines += ["", "## Exploratory metrics", "", EXPLORATORY, ""]
        lines += _table(values, found, metrics[1:])
    lines += ["", "## Configuration", ""]
    identity = rows[0]["identity"]
    for facts in (identity["config"], identity["environment"]):
        lines += [f"- {name}: {one_line(facts[name])}" for name in facts]
    return Report("\n".join(lines) + "\n")


def sentence(
    item: Comparison, values: Values, arms: int, margin: float | None
) -> str:
    """Returns what a comparison says, and how many more seeds it takes."""
    arm, reference, what = f"`{item.arm}`", f"`{item.reference}`", item.metric
    difference, interval = _shown(item)
    if not interval and statistics.half_width(item.n, arms) < math.inf:
        return (
            f"All {item.n} seeds gave the same difference between {arm} and "
            f"{reference} in {what}, {difference}: probably nothing in the "
            "runs depends on the seed, and they count as one."
        )
    if not interval:
        widths = (statistics.half_width(n, arms) for n in itertools.count())
        too_few = itertools.takewhile(math.isinf, widths)
        return (
            f"Too few seeds to compare {arm} with {reference} in {what} (n = "
            f"{item.n}; a verdict takes at least {len([*too_few])})."
        )
    between = f"({interval}, n = {item.n})"
    if item.verdict == "equivalent":
        return (
            f"{arm} is equivalent to {reference} in {what}: the difference is "
            f"within ± {margin:g} {between}."
        )
    if item.verdict != "undecided":
        return (
            f"{arm} is {item.verdict} than {reference} in {what}, by "
            f"{difference} {between}."
        )
    size = max(map(abs, item.interval))
    if not size:
        return f"All {item.n} seeds gave {arm} and {reference} the same {what}."
    sample = statistics.paired_differences(values, item.arm, what)
    least, most = statistics.seeds_to_verdict(sample, arms, margin)
    more = f"at least {least:.0f}"
    if most < math.inf:
        more = f"{least:.0f} to {most:.0f}"
    return (
        f"No difference seen between {arm} and {reference} in {what} "
        f"{between}: one of {significant(size, size)} is still possible. A "
        f"verdict probably takes {more} more seeds."
    )


def _shown(item: Comparison) -> tuple[str, str]:
    """Returns a difference and its interval, if there is one, as text."""
    low, high = item.interval
    half = (high - low) / 2
    unit = half if 0 < half < math.inf else abs(item.difference)
    mean, *ends = [
        significant(x, unit, "+") for x in (item.difference, low, high)
    ]
    return mean, " to ".join(ends) if high < math.inf else ""


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns lines that count the failed runs of each arm."""
    runs = Counter(row["arm"] for row in rows)
    lines = []
    for arm in runs:
        failed = [x for x in rows if x["arm"] == arm and x["metrics"] is None]
        if failed:
            error = one_line(failed[0]["error"])
            lines += [
                f"- {len(failed)} of {runs[arm]} runs of `{arm}` failed and "
                f"are not in the means, the first (seed {failed[0]['seed']}) "
                f"with {error}"
            ]
    return lines


def _table(
    values: Values, found: Sequence[Comparison], metrics: Sequence[str]
) -> list[str]:
    """Returns the lines of a table of some metrics, with a row for each arm."""
    by_place = {(item.metric, item.arm): item for item in found if item.n}
    header = ("metric", "arm", "runs", "mean", "pairs", "difference")
    rows: list[Sequence[Any]] = [(*header, "95 % interval", "effect")]
    for metric, (arm, by_metric) in itertools.product(metrics, values.items()):
        sample, cells = [*by_metric.get(metric, {}).values()], [""] * 4
        item = by_place.get((metric, arm))
        if item is not None:
            effect = "" if item.effect is None else f"{item.effect:+.2g}"
            cells = [str(item.n), *_shown(item), effect]
        rows.append((metric, arm, len(sample), _spread(sample), *cells))
    return aligned(rows)


def _spread(sample: Sequence[float]) -> str:
    """Returns the mean and the standard deviation of a sample."""
    if len(sample) < 2:
        return "".join(f"{value:.4g}" for value in sample)
    mean, deviation = float(np.mean(sample)), float(np.std(sample, ddof=1))
    unit = deviation or abs(mean) / 100
    return f"{significant(mean, unit)} ± {significant(deviation, deviation)}"
