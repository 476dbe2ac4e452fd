"""Sentences on what the rows of a study support, and what they do not."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_parewire.studies.statistics import (
    SIGNIFICANCE,
    Columns,
    Comparison,
    detectable_difference,
    paired_differences,
    repeated_arms,
    seeds_needed,
    summarize,
)
from keras_parewire.studies.tables import Format, four_digits, signed

# With fewer, the signed-rank test cannot reach a p of 5 %, and bootstrap
# intervals are much too narrow.
LEAST_PAIRS = 6


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
    number = number or four_digits
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
    between = f"{signed(low, number)} to {signed(high, number)}{unit}, {n}"
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
            f"{what}: {len(seeds)} seeds find a difference of "
            f"{four_digits(size)} in 4 of 5 studies; half of it takes {half} "
            "seeds."
        )
    needed = seeds_needed(deviation, size)
    more = max(0, needed - len(seeds))
    return (
        f"{what}: it takes {needed} seeds to find a difference of "
        f"{four_digits(size)} in 4 of 5 studies, "
        + (f"{more} more than there are." if more else "which are there.")
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
