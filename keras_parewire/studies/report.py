"""Reports in Markdown: tables, and a sentence on what each interval says."""

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_parewire.studies.statistics import (
    SIGNIFICANCE,
    Columns,
    Comparison,
    adjust,
    columns,
    compare_paired,
    detectable_difference,
    paired_differences,
    seeds_needed,
    summarize,
)

NOTES = """\
Means ± standard deviation over n seeds. Differences are paired by seed, with
bootstrap percentile intervals of 95 % and Wilcoxon's signed-rank test. The
intervals are not corrected for the number of comparisons: some miss 0 by
chance. p (Holm) is corrected for all comparisons of a metric."""

# With fewer, the signed-rank test cannot reach a p of 5 %, and bootstrap
# intervals are much too narrow.
LEAST_PAIRS = 6

Format = Callable[[float], str]


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


def compare(
    found: Columns, arms: Iterable[str] | None = None
) -> list[Comparison]:
    """Compares every arm with the first, in every metric.

    Args:
        found: Values by arm, metric and seed.
        arms: Which arms. Defaults to all but the first.
    """
    reference = next(iter(found))
    repeated = repeated_arms(found)
    comparisons = []
    for arm in list(found)[1:] if arms is None else arms:
        same = [name for name in (arm, reference) if name in repeated]
        for metric, values in found[arm].items():
            item = compare_paired(values, found[reference].get(metric, {}))
            if item is not None:
                names = {"arm": arm, "reference": reference, "metric": metric}
                comparisons.append({**names, **item, "repeated": same})
    return adjust(comparisons)


def summary_table(
    found: Columns, rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Returns the lines of a table of all arms."""
    metrics = list(next(iter(found.values())))
    lines = _header("arm", *metrics, "n", "failed")
    for arm, by_metric in found.items():
        runs = [row for row in rows if row["arm"] == arm]
        failed = sum(row["metrics"] is None for row in runs)
        cells = [_spread(by_metric[metric].values()) for metric in metrics]
        lines.append(table_row(arm, *cells, len(runs) - failed, failed))
    return lines


def comparison_table(
    comparisons: Iterable[Comparison],
    labels: Mapping[str, str] | None = None,
    number: Format | None = None,
) -> list[str]:
    """Returns the lines of a table of comparisons.

    Args:
        comparisons: As `compare` returns them.
        labels: Names for the metrics. Defaults to their names.
        number: Formats a difference without its sign. Defaults to four digits.
    """
    number = number or _number
    lines = _header(
        "comparison",
        "metric",
        "difference, 95 % interval",
        "p",
        "p (Holm)",
        "variance ratio, 95 % interval",
        "n",
    )
    for item in comparisons:
        ratio, p_values = item["ratio"], (item["p"], item["p_holm"])
        lines.append(
            table_row(
                f"{item['arm']} - {item['reference']}",
                (labels or {}).get(item["metric"], item["metric"]),
                _signed(item["difference"], number)
                + _interval(item["interval"], number),
                *("" if p is None else f"{p:.2g}" for p in p_values),
                ""
                if ratio is None
                else f"{ratio:.2f}"
                + _interval(item["ratio_interval"], "{:.2f}".format),
                item["n"],
            )
        )
    return lines


def verdict(
    item: Comparison,
    labels: Mapping[str, str] | None = None,
    number: Format | None = None,
    unit: str = "",
) -> str:
    """Returns one sentence that interval and test support.

    Args:
        item: One of the comparisons that `compare` returns.
        labels: Names for the metrics. Defaults to their names.
        number: Formats a difference without its sign. Defaults to four digits.
        unit: Text after a difference, as in `" points"`. Defaults to nothing.
    """
    number = number or _number
    what = f"in {(labels or {}).get(item['metric'], item['metric'])}"
    n = f"n = {item['n']}"
    if item.get("repeated"):
        same = " and of ".join(f"`{name}`" for name in item["repeated"])
        n += f", but all runs of {same} are the same"
    arm, reference = f"`{item['arm']}`", f"`{item['reference']}`"
    pairs = isinstance(item["n"], int)
    if item["interval"] is None or (pairs and item["n"] < LEAST_PAIRS):
        least = f", at least {LEAST_PAIRS} are needed" if pairs else ""
        return (
            f"Too few seeds to compare {arm} with {reference} {what} "
            f"({n}{least})."
        )
    low, high = item["interval"]
    between = f"{_signed(low, number)} to {_signed(high, number)}{unit}, {n}"
    contains = low <= 0 <= high
    rejects = item["p"] <= SIGNIFICANCE
    if contains and not rejects:
        return (
            f"No difference seen between {arm} and {reference} {what} "
            f"({between})."
        )
    if contains == rejects:
        how = (
            "contains 0, but the test rejects it"
            if contains
            else "leaves out 0, but the test does not reject it"
        )
        return (
            f"{arm} and {reference} may differ {what} ({between}): the "
            f"interval {how} (p = {item['p']:.2g})."
        )
    than = "higher" if low > 0 else "lower"
    size = number(abs(item["difference"]))
    return (
        f"{arm} is {than} than {reference} {what} by {size}{unit} ({between})."
    )


def power_sentence(
    found: Columns, item: Comparison, size: float | None = None
) -> str:
    """Returns one sentence on how many seeds it takes to find a difference.

    Args:
        found: Values by arm, metric and seed.
        item: A comparison of them.
        size: The difference, or None for the one that the present seeds find.
    """
    one, other = (
        found[item[side]][item["metric"]] for side in ("arm", "reference")
    )
    seeds = sorted(set(one) & set(other))
    what = f"`{item['arm']}` - `{item['reference']}` in {item['metric']}"
    if len(seeds) < 2:
        return f"{what}: too few seeds to tell."
    apart = paired_differences(
        np.array([one[seed] for seed in seeds]),
        np.array([other[seed] for seed in seeds]),
    )
    deviation = summarize(apart)["sd"]
    if not deviation:
        return f"{what}: the difference is the same for all seeds."
    if size is None:
        size = detectable_difference(deviation, len(seeds))
        half = seeds_needed(deviation, size / 2)
        return (
            f"{what}: {len(seeds)} seeds find a difference of {_number(size)} "
            f"in 4 of 5 studies; half of it takes {half} seeds."
        )
    needed = seeds_needed(deviation, size)
    more = max(0, needed - len(seeds))
    return (
        f"{what}: it takes {needed} seeds to find a difference of "
        f"{_number(size)} in 4 of 5 studies, "
        + (f"{more} more than there are." if more else "which are there.")
    )


def table_row(*cells: Any) -> str:
    """Returns one line of a table."""
    return (
        f"| {' | '.join(str(c).replace('|', chr(92) + '|') for c in cells)} |"
    )


def failures(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of a list of failed runs, if there are any."""
    failed = [row for row in rows if row["metrics"] is None]
    if not failed:
        return []
    lines = [
        "",
        f"Failed runs, not in the means: {len(failed)}.",
        "",
    ]
    for row in failed:
        # The message of an exception may have several lines.
        error = " ".join(row["error"].split())
        error = error if len(error) <= 200 else f"{error[:200]}..."
        lines.append(f"- `{row['arm']}`, seed {row['seed']}: {error}")
    return lines


def repeated_arms(found: Columns) -> dict[str, int]:
    """Returns the number of runs of each arm whose runs are all the same."""
    repeated = {}
    for arm, by_metric in found.items():
        values = [[*by_seed.values()] for by_seed in by_metric.values()]
        runs = max(map(len, values), default=0)
        if runs > 1 and all(len(set(column)) == 1 for column in values):
            repeated[arm] = runs
    return repeated


def repetitions(found: Columns) -> list[str]:
    """Returns lines on the arms whose runs are all the same, if there are any.

    Args:
        found: Values by arm, metric and seed.
    """
    lines = []
    for arm, runs in repeated_arms(found).items():
        lines += [
            "",
            f"All {runs} runs of `{arm}` gave the same numbers: probably "
            "nothing in them depends on the seed. They then count as one run, "
            "and comparisons with it do not tell what another order of the "
            "data would change.",
        ]
    return lines


def _header(*cells: str) -> list[str]:
    return [table_row(*cells), table_row(*["---"] * len(cells))]


def _spread(values: Iterable[float]) -> str:
    column = list(values)
    if not column:
        return ""
    found = summarize(column)
    if found["sd"] is None:
        return _number(found["mean"])
    return f"{_number(found['mean'])} ± {found['sd']:.2g}"


def _facts(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in facts.items())


def _interval(pair: Sequence[float] | None, number: Format) -> str:
    if pair is None:
        return ""
    low, high = (("-" if x < 0 else "") + number(abs(x)) for x in pair)
    return f" [{low}, {high}]"


def _signed(value: float, number: Format) -> str:
    return ("-" if math.copysign(1, value) < 0 else "+") + number(abs(value))


def _number(value: float) -> str:
    return f"{value:.4g}"


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
