"""What rows support: intervals, tests and the number of seeds needed."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 9_999
# With fewer seeds, the interval of a variance ratio means little.
RATIO_MINIMUM = 5
POWER = 0.8
SIGNIFICANCE = 0.05

# Values by arm, then metric, then seed.
Columns = dict[str, dict[str, dict[int, float]]]
Comparison = dict[str, Any]


def columns(rows: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> Columns:
    """Sorts the metrics of completed runs by arm, metric and seed."""
    names = [name for row in rows for name in row["metrics"] or ()]
    found: Columns = {
        arm: {name: {} for name in dict.fromkeys(names)} for arm in arms
    }
    for row in rows:
        for name, value in (row["metrics"] or {}).items():
            found[row["arm"]][name][row["seed"]] = value
    return found


def repeated_arms(found: Columns) -> dict[str, int]:
    """Finds the arms whose runs are all the same in every metric.

    Returns:
        A dict from the names of these arms to their number of runs.
    """
    repeated = {}
    for arm, by_metric in found.items():
        values = [[*by_seed.values()] for by_seed in by_metric.values()]
        runs = max(map(len, values), default=0)
        if runs > 1 and all(len(set(column)) < 2 for column in values):
            repeated[arm] = runs
    return repeated


def summarize(values: Any) -> dict[str, Any]:
    """Summarizes the values of one metric over the seeds of one arm."""
    column = np.asarray(list(values), dtype="float64")
    return {
        "mean": float(column.mean()),
        "sd": float(column.std(ddof=1)) if len(column) > 1 else None,
        "min": float(column.min()),
        "max": float(column.max()),
    }


def compare_paired(
    one: Mapping[int, float], other: Mapping[int, float]
) -> Comparison | None:
    """Compares two arms in one metric, over the seeds that both have.

    Args:
        one: The values of an arm by seed.
        other: The values of the reference by seed.

    Returns:
        A dict of `n` (the number of pairs), the mean `difference`, its
        `interval` of 95 % (paired bootstrap), `p` (Wilcoxon's signed-rank
        test), the variance `ratio` and `ratio_interval`. Entries that need more
        seeds are None. Returns None if there are no pairs.
    """
    from scipy import stats

    seeds = sorted(set(one) & set(other))
    if not seeds:
        return None
    first = np.array([one[seed] for seed in seeds])
    second = np.array([other[seed] for seed in seeds])
    apart = paired_differences(first, second)
    p = None
    if len(seeds) > 1:
        # The test is not defined where nothing differs.
        p = float(stats.wilcoxon(apart).pvalue) if any(apart) else 1
    return {
        "n": len(seeds),
        "difference": float(apart.mean()),
        "interval": _bootstrap((apart,), np.mean),
        "p": p,
        **_variance_ratio(first, second),
    }


def paired_differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the differences of two samples, with their ties restored.

    Accuracies are multiples of one over the number of examples, so that many
    differences are of the same size. A test of ranks must not see them apart by
    rounding.
    """
    apart = first - second
    sizes = np.abs(apart)
    order = np.argsort(sizes)
    # Four units in the last place of float32, in which Keras measures, but
    # nothing that could be a difference by itself.
    rounding = min(
        2.0**-22 * max(np.abs(first).max(), np.abs(second).max()),
        1e-3 * float(np.median(sizes)),
    )
    starts = np.diff(sizes[order], prepend=0.0) > rounding
    level = np.where(starts, sizes[order], 0.0)
    sizes[order] = np.maximum.accumulate(level)
    restored: np.ndarray = np.sign(apart) * sizes
    return restored


def compare_groups(one: Any, other: Any) -> Comparison:
    """Compares two groups that are not paired, as `compare_paired` does."""
    from scipy import stats

    one, other = np.asarray(one), np.asarray(other)
    several = min(len(one), len(other)) > 1
    return {
        "n": f"{len(one)} + {len(other)}",
        "difference": float(one.mean() - other.mean()),
        "interval": _bootstrap(
            (one, other), lambda a, b, axis: a.mean(axis) - b.mean(axis)
        ),
        "p": float(stats.mannwhitneyu(one, other).pvalue) if several else None,
        "ratio": None,
        "ratio_interval": None,
    }


def adjust(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Corrects p-values for the number of comparisons of a metric (Holm, 1979).

    Args:
        comparisons: As of `compare_paired` or `compare_groups`, each with its
            `metric`.

    Returns:
        The same comparisons in their order, each with `p_holm`, which is None
        where `p` is.
    """
    adjusted = [{**item, "p_holm": None} for item in comparisons]
    largest: dict[str, float] = {}
    tested = [item for item in adjusted if item["p"] is not None]
    left = Counter(item["metric"] for item in tested)
    for item in sorted(tested, key=lambda item: item["p"]):
        metric = item["metric"]
        # A larger p is never adjusted to less than a smaller one.
        p = max(largest.get(metric, 0.0), item["p"] * left[metric])
        largest[metric], item["p_holm"] = p, min(p, 1.0)
        left[metric] -= 1
    return adjusted


def seeds_needed(deviation: float, difference: float) -> int:
    """Returns how many pairs it takes to find a difference.

    Args:
        deviation: Standard deviation of the paired differences.
        difference: The true mean difference, not 0.

    Returns:
        The least number at which the t-test of paired differences, two-sided at
        the 5 % level, finds it in 80 % of all studies.
    """
    size = abs(difference)
    if deviation == 0:
        return 2
    # The normal approximation gives a lower bound, so start there.
    least = math.floor(7.849 * (deviation / size) ** 2)
    count = max(2, least)
    while _power(count, size / deviation) < POWER:
        count += 1
    return count


def detectable_difference(deviation: float, count: int) -> float:
    """Returns the difference that `count` pairs find, as in `seeds_needed`.

    Args:
        deviation: Standard deviation of the paired differences.
        count: Number of pairs, 2 or more.
    """
    from scipy import optimize

    if deviation == 0:
        return 0.0
    root = optimize.brentq(lambda size: _power(count, size) - POWER, 0, 100)
    return float(root * deviation)


def _power(count: int, size: float) -> float:
    """Returns the power of the t-test at a difference of `size` deviations."""
    from scipy import stats

    freedom, shift = count - 1, size * math.sqrt(count)
    bound = stats.t.ppf(1 - SIGNIFICANCE / 2, freedom)
    # The other tail is negligible where the power is of interest.
    return float(stats.nct.sf(bound, freedom, shift))


def _variance_ratio(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Returns the ratio of two variances, resampled in pairs."""
    if len(one) < 2 or not other.var():
        return {"ratio": None, "ratio_interval": None}
    ratio = float(one.var(ddof=1) / other.var(ddof=1))
    if len(one) < RATIO_MINIMUM:
        return {"ratio": ratio, "ratio_interval": None}
    # A resample may repeat a single seed, and so have no variance.
    least = 1e-12 * other.var()

    def statistic(a: Any, b: Any, axis: int) -> Any:
        return (a.var(axis) + least) / (b.var(axis) + least)

    interval = _bootstrap((one, other), statistic, paired=True)
    return {"ratio": ratio, "ratio_interval": interval}


def _bootstrap(
    samples: Sequence[np.ndarray],
    statistic: Callable[..., Any],
    paired: bool = False,
) -> list[float] | None:
    """Returns the 95 % percentile interval, or None for a single seed."""
    from scipy import stats

    if min(map(len, samples)) < 2:
        return None
    interval = stats.bootstrap(
        samples,
        statistic,
        paired=paired,
        method="percentile",
        n_resamples=RESAMPLES,
        # At most 80 MB at once, however many seeds there are.
        batch=max(1, 10**7 // len(samples[0])),
        # The same study always gets the same report.
        rng=np.random.default_rng(0),
    ).confidence_interval
    return [float(interval.low), float(interval.high)]
