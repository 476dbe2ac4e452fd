"""The report of a study, in Markdown."""

import itertools
import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_parewire.studies.forecast import seeds_to_verdict
from keras_parewire.studies.statistics import (
    Comparison,
    Values,
    columns,
    compare,
    half_width,
    paired_differences,
    repeated_arms,
)

# How many failed runs are listed.
LISTED = 20

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

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


def report(
    rows: Sequence[Mapping[str, Any]],
    arms: Sequence[str],
    metric: str | None = None,
    margin: float | None = None,
) -> Report:
    """Returns the report of a study; see `Study.report`."""
    values = columns(rows, arms)
    found = compare(values, metric=metric, margin=margin)
    primary = [item for item in found if item.verdict is not None]
    lines = ["# Study", "", *failures(rows), *repetitions(values)]
    for item in primary:
        differences = paired_differences(
            values[item.arm], values[item.reference], item.metric
        )
        lines += [f"- {sentence(item, differences, len(primary), margin)}"]
    metrics = list(dict.fromkeys(item.metric for item in found))
    metrics = metrics or list(values[arms[0]])
    if metrics:
        lines += ["", *_table(values, found, metrics[:1]), "", NOTES]
    if metrics[1:]:
        lines += ["", "## Exploratory metrics", "", EXPLORATORY, ""]
        lines += _table(values, found, metrics[1:])
    lines += ["", "## Configuration", ""]
    identity = rows[0]["identity"]
    facts = {**identity["config"], **identity["environment"]}
    lines += [f"- {name}: {_one_line(fact)}" for name, fact in facts.items()]
    return Report("\n".join(lines) + "\n")


def sentence(
    item: Comparison, differences: np.ndarray, arms: int, margin: float | None
) -> str:
    """Returns what a comparison says, and how many more seeds it takes."""
    arm, reference, what = f"`{item.arm}`", f"`{item.reference}`", item.metric
    low, high = item.interval
    if high == math.inf:
        enough = (half_width(n, arms) < math.inf for n in itertools.count())
        needed = [*itertools.takewhile(operator.not_, enough)]
        return (
            f"Too few seeds to compare {arm} with {reference} in {what} (n = "
            f"{item.n}; a verdict takes at least {len(needed)})."
        )
    between = f"{_interval(item)}, n = {item.n}"
    if item.verdict == "equivalent":
        return (
            f"{arm} is equivalent to {reference} in {what}: the difference is "
            f"within ± {margin:.2g} ({between})."
        )
    if item.verdict != "undecided":
        return (
            f"{arm} is {item.verdict} than {reference} in {what}, by "
            f"{_difference(item)} ({between})."
        )
    size = max(-low, high)
    if not size:
        return f"All {item.n} seeds gave {arm} and {reference} the same {what}."
    least, most = seeds_to_verdict(differences, arms, margin)
    more = f"at least {least:.0f}"
    if most < math.inf:
        more = f"{least:.0f} to {most:.0f}"
    return (
        f"No difference seen between {arm} and {reference} in {what} "
        f"({between}): one of {significant(size, size)} is still possible. A "
        f"verdict probably takes {more} more seeds."
    )


def significant(value: float, unit: float, sign: str = "") -> str:
    """Rounds a number to the second significant digit of a unit."""
    if not 1e-5 < unit < 1e5:  # Or it is no number.
        return f"{value:{sign}.2g}"
    places = 1 - math.floor(math.log10(unit))
    return f"{round(value, places):{sign}.{max(places, 0)}f}"


def _difference(item: Comparison) -> str:
    half = item.interval[1] - item.difference
    unit = half if 0 < half < math.inf else abs(item.difference)
    return significant(item.difference, unit, "+")


def _interval(item: Comparison) -> str:
    low, high = item.interval
    unit = (high - low) / 2 or abs(high)
    return f"{significant(low, unit, '+')} to {significant(high, unit, '+')}"


def aligned(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Returns the lines of a table in Markdown whose columns line up.

    Columns without a value are left out. The first row is the header.
    """
    texts = [[_one_line(cell).replace("|", "\\|") for cell in r] for r in rows]
    columns = [column for column in zip(*texts, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        for line in zip(*columns, strict=True)
    ]
    lines.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(line)} |" for line in lines]


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns lines that count the failed runs of each arm, and list some."""
    failed = [row for row in rows if row["metrics"] is None]
    runs = Counter(row["arm"] for row in rows)
    counts = Counter(row["arm"] for row in failed)
    arms = [f"`{arm}` {counts[arm]} of {n}" for arm, n in runs.items()]
    lines = [f"Failed runs, not in the means: {', '.join(arms)}.", ""]
    for row in failed[:LISTED]:
        error = _one_line(row["error"])
        lines.append(f"- `{row['arm']}`, seed {row['seed']}: {error}")
    if len(failed) > LISTED:
        lines.append(f"- and {len(failed) - LISTED} more")
    return [*lines, ""] if failed else []


def repetitions(values: Values) -> list[str]:
    """Returns a paragraph for each arm whose runs are all the same."""
    return [
        f"All {runs} runs of `{arm}` gave the same numbers: probably nothing "
        "in them depends on the seed. They then count as one run, and "
        "comparisons with it do not tell what another order of the data would "
        "change.\n"
        for arm, runs in repeated_arms(values).items()
    ]


def _table(
    values: Values, found: Sequence[Comparison], metrics: Sequence[str]
) -> list[str]:
    """Returns the lines of a table of some metrics, with a row for each arm."""
    by_place = {(item.metric, item.arm): item for item in found}
    header = ("metric", "arm", "runs", "mean", "pairs", "difference")
    rows: list[Sequence[Any]] = [(*header, "95 % interval", "effect")]
    for metric in metrics:
        for arm, by_metric in values.items():
            sample = [*by_metric.get(metric, {}).values()]
            cells = _cells(by_place.get((metric, arm)))
            rows.append((metric, arm, len(sample), _spread(sample), *cells))
    return aligned(rows)


def _cells(item: Comparison | None) -> list[str]:
    """Returns what a table says of a comparison."""
    if item is None or not item.n:
        return [""] * 4
    return [
        str(item.n),
        _difference(item),
        "" if item.interval[1] == math.inf else _interval(item),
        "" if item.effect is None else f"{item.effect:+.2g}",
    ]


def _spread(sample: Sequence[float]) -> str:
    """Returns the mean and the standard deviation of a sample."""
    if len(sample) < 2:
        return "".join(f"{value:.4g}" for value in sample)
    mean, deviation = float(np.mean(sample)), float(np.std(sample, ddof=1))
    unit = deviation or abs(mean) / 100
    return f"{significant(mean, unit)} ± {significant(deviation, deviation)}"


def _one_line(cell: Any) -> str:
    # The message of an exception may have several lines.
    return " ".join(str(cell).split())
