"""The report of a study, in Markdown."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_parewire.studies.forecast import seeds_to_verdict
from keras_parewire.studies.statistics import (
    SIGNIFICANCE,
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
of these differences."""
OPEN = """\
The intervals of a metric are valid for all arms together and after any number
of seeds: in at least 95 % of studies, none ever misses the true difference."""
PLANNED = """\
The intervals are paired t intervals of 95 % for one arm, p is of Wilcoxon's
signed-rank test, corrected for the number of arms (Holm). Both are valid only
if the number of seeds was fixed before the first look."""
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
    planned: bool = False,
) -> Report:
    """Returns the report of a study; see `Study.report`.

    Args:
        rows: Rows as `Rows` yields them.
        arms: The names of the arms, with the reference first.
        metric: As in `compare`.
        margin: As in `compare`.
        planned: As in `compare`.
    """
    values = columns(rows, arms)
    found = compare(values, metric=metric, margin=margin, planned=planned)
    primary = [item for item in found if item.verdict is not None]
    counts = Counter(row["arm"] for row in rows if row["metrics"] is None)
    runs = Counter(row["arm"] for row in rows)
    lines = ["# Study", "", *_failing(arms, runs, counts), *repetitions(values)]
    lines += _summary(primary)
    for item in primary:
        differences = paired_differences(
            values[item.arm], values[item.reference], item.metric
        )
        lines += [
            f"- {sentence(item, differences, len(primary), margin, planned)}"
        ]
    metrics = list(dict.fromkeys(item.metric for item in found))
    metrics = metrics or list(values[arms[0]])
    if metrics:
        lines += ["", *_table(values, found, metrics[:1], counts), ""]
        lines += [NOTES, PLANNED if planned else OPEN]
    if metrics[1:]:
        lines += ["", "## Exploratory metrics", "", EXPLORATORY, ""]
        lines += _table(values, found, metrics[1:], counts)
    lines += ["", *failures(rows), "## Configuration", ""]
    identity = rows[0]["identity"]
    for facts in (identity["config"], identity["environment"]):
        lines += [f"- {name}: {_one_line(facts[name])}" for name in facts]
    return Report("\n".join(lines) + "\n")


def sentence(
    item: Comparison,
    differences: np.ndarray,
    arms: int,
    margin: float | None,
    planned: bool,
) -> str:
    """Returns what a comparison says, and how many more seeds it takes."""
    arm, reference, what = f"`{item.arm}`", f"`{item.reference}`", item.metric
    low, high = item.interval
    between = f"{_signed(low)} to {_signed(high)}, n = {item.n}"
    if item.verdict == "equivalent":
        return (
            f"{arm} is equivalent to {reference} in {what}: the difference is "
            f"within ± {margin:.4g} ({between})."
        )
    if item.verdict != "undecided":
        return (
            f"{arm} is {item.verdict} than {reference} in {what} by "
            f"{abs(item.difference):.4g} ({between})."
        )
    least = _least_seeds(arms, planned)
    if item.n < least or high == math.inf:
        return (
            f"Too few seeds to compare {arm} with {reference} in {what} (n = "
            f"{item.n}; a verdict takes at least {least})."
        )
    excluded = low > 0 or high < 0
    rejected = item.p is not None and item.p <= SIGNIFICANCE
    if excluded or rejected:  # Only where the seeds were planned.
        return (
            f"{arm} and {reference} may differ in {what} ({between}): the "
            f"interval {'leaves out' if excluded else 'contains'} 0, but the "
            f"test {'rejects' if rejected else 'does not reject'} it "
            f"(p = {item.p:.2g})."
        )
    size = max(-low, high)
    if not size:
        return f"All {item.n} seeds gave {arm} and {reference} the same {what}."
    text = (
        f"No difference seen between {arm} and {reference} in {what} "
        f"({between}); one of up to {size:.4g} is not ruled out."
    )
    if planned or item.effect is None:
        return text
    more = _range(*seeds_to_verdict(differences, arms, margin))
    return f"{text} A verdict probably takes {more} more seeds."


def _least_seeds(arms: int, planned: bool) -> int:
    """Returns the least number of seeds that can give a verdict."""
    n = 2
    while (
        arms * 2.0 ** (1 - n) > SIGNIFICANCE
        if planned
        else half_width(n, arms) == math.inf
    ):
        n += 1
    return n


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


def failures(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns lines that list the failed runs, if there are any."""
    failed = [row for row in rows if row["metrics"] is None]
    if not failed:
        return []
    lines = [f"Failed runs, not in the means: {len(failed)}.", ""]
    for row in failed[:LISTED]:
        error = _one_line(row["error"])
        error = error if len(error) <= 200 else f"{error[:200]}..."
        lines.append(f"- `{row['arm']}`, seed {row['seed']}: {error}")
    if len(failed) > LISTED:
        lines.append(f"- and {len(failed) - LISTED} more")
    return [*lines, ""]


def _summary(primary: Sequence[Comparison]) -> list[str]:
    """Returns a line that counts verdicts, if there are several."""
    if len(primary) < 2:
        return []
    reference, metric = primary[0][1:3]
    parts = []
    for verdict in ("higher", "lower", "equivalent", "undecided"):
        arms = [f"`{item.arm}`" for item in primary if item.verdict == verdict]
        if arms:
            parts.append(f"{len(arms)} {verdict} ({', '.join(arms)})")
    return [
        f"Of {len(primary)} arms compared with `{reference}` in {metric}: "
        f"{'; '.join(parts)}.",
        "",
    ]


def _failing(
    arms: Sequence[str], runs: Mapping[str, int], failed: Mapping[str, int]
) -> list[str]:
    """Returns a line for each arm that fails more often than the reference."""
    reference, *others = arms
    lines = []
    for arm in others:
        if failed[arm] * runs[reference] > failed[reference] * runs[arm]:
            lines += [
                f"**`{arm}` failed in {failed[arm]} of {runs[arm]} runs, "
                f"`{reference}` in {failed[reference]} of {runs[reference]}.** "
                "Means and differences leave these seeds out.",
                "",
            ]
    return lines


def repetitions(values: Values) -> list[str]:
    """Returns a line for each arm whose runs are all the same."""
    lines = []
    for arm, runs in repeated_arms(values).items():
        lines += [
            f"All {runs} runs of `{arm}` gave the same numbers: probably "
            "nothing in them depends on the seed. They then count as one run, "
            "and comparisons with it do not tell what another order of the "
            "data would change.",
            "",
        ]
    return lines


def _table(
    values: Values,
    found: Sequence[Comparison],
    metrics: Sequence[str],
    failed: Mapping[str, int],
) -> list[str]:
    """Returns the lines of a table of some metrics, with a row for each arm."""
    by_place = {(item.metric, item.arm): item for item in found}
    header = ("metric", "arm", "runs", "failed", "mean", "pairs", "difference")
    rows: list[Sequence[Any]] = [
        (*header, "95 % interval", "effect", "p (Holm)")
    ]
    for metric in metrics:
        for arm, by_metric in values.items():
            sample = [*by_metric.get(metric, {}).values()]
            cells = _cells(by_place.get((metric, arm)))
            rows.append(
                (
                    metric,
                    arm,
                    len(sample),
                    failed.get(arm) or "",
                    _spread(sample),
                    *cells,
                )
            )
    return aligned(rows)


def _cells(item: Comparison | None) -> list[str]:
    """Returns what a table says of a comparison."""
    if item is None or not item.n:
        return [""] * 5
    low, high = item.interval
    return [
        str(item.n),
        _signed(item.difference),
        "" if high == math.inf else f"{low:.4g} to {high:.4g}",
        "" if item.effect is None else f"{item.effect:+.2f}",
        "" if item.p is None else f"{item.p:.2g}",
    ]


def _spread(sample: Sequence[float]) -> str:
    """Returns the mean and the standard deviation of a sample."""
    if not sample:
        return ""
    mean = f"{np.mean(sample):.4g}"
    return mean if len(sample) < 2 else f"{mean} ± {np.std(sample, ddof=1):.2g}"


def _signed(value: float) -> str:
    return f"{value:+.4g}"


def _range(least: float, most: float) -> str:
    """Returns a number of seeds in words."""
    if most < math.inf:
        return f"{least:.0f} to {most:.0f}"
    return f"at least {least:.0f}"


def _one_line(cell: Any) -> str:
    # The message of an exception may have several lines.
    return " ".join(str(cell).split())
