"""What the rows of the CIFAR-10 study support, in numbers and in words."""

import numpy as np
from scipy import stats

# The columns of the published table, by the columns of ours.
METRICS = {
    "epoch_1_accuracy": "ep. 1 acc.",
    "epoch_1_val_accuracy": "ep. 1 val. acc.",
    "test_accuracy": "test acc.",
}
# Arms to compare with an arm other than the base.
PAIRS = (
    ("pa", "shuffled"),
    ("pa", "centered"),
    ("pa", "sinusoidal"),
    ("pa_centered", "centered"),
    ("pa_sinusoidal", "sinusoidal"),
)
# With fewer seeds, the interval of a variance ratio means little.
RATIO_MINIMUM = 5
RESAMPLES = 9_999


def summarize(arms):
    """Summarizes `{arm: {seed: row}}`; accuracies in %."""
    pairs = [(arm, "base") for arm in arms if arm not in (*_UNPAIRED, "base")]
    found = [
        compare_paired(arms, arm, reference, metric)
        for arm, reference in (*pairs, *PAIRS)
        for metric in METRICS
        if {arm, reference} <= set(arms)
    ]
    if set(_UNPAIRED) <= set(arms):
        found += [compare_groups(arms, metric) for metric in METRICS]
    found = [item for item in found if item is not None]
    for metric in METRICS:
        _adjust([item for item in found if item["metric"] == metric])
    return {
        "arms": {arm: _summarize_arm(rows) for arm, rows in arms.items()},
        "comparisons": found,
    }


# Their seeds count candidates: seed 3 of one arm has no partner in another.
_UNPAIRED = ("lowest", "highest")


def _adjust(comparisons):
    """Adds p-values corrected for their number by the method of Holm (1979)."""
    tested = [item for item in comparisons if item["p"] is not None]
    largest = 0.0
    for place, item in enumerate(sorted(tested, key=lambda item: item["p"])):
        largest = max(largest, item["p"] * (len(tested) - place))
        item["p_holm"] = min(largest, 1.0)


def _summarize_arm(rows):
    summary = {"n": len(rows)}
    for metric in METRICS:
        column = _column(rows, metric)
        summary[metric] = {
            "mean": float(column.mean()),
            "sd": float(column.std(ddof=1)) if len(column) > 1 else None,
            "max": float(column.max()),
        }
    return summary


def compare_paired(arms, arm, reference, metric):
    """Compares two arms over the seeds that both have."""
    seeds = sorted(set(arms[arm]) & set(arms[reference]))
    if not seeds:
        return None
    one, other = (
        _column([arms[name][seed] for seed in seeds], metric)
        for name in (arm, reference)
    )
    differences = one - other
    p = None
    if len(seeds) > 1:
        # The test is not defined where nothing differs.
        p = float(stats.wilcoxon(differences).pvalue) if any(differences) else 1
    return _comparison(
        arm,
        reference,
        metric,
        n=len(seeds),
        difference=float(differences.mean()),
        interval=_bootstrap((differences,), np.mean),
        p=p,
        **_ratio(one, other),
    )


def compare_groups(arms, metric):
    """Compares the highest with the lowest strength variances."""
    one, other = (_column(arms[name], metric) for name in ("highest", "lowest"))
    several = min(len(one), len(other)) > 1
    return _comparison(
        "highest",
        "lowest",
        metric,
        n=f"{len(one)} + {len(other)}",
        difference=float(one.mean() - other.mean()),
        interval=_bootstrap((one, other), _mean_difference),
        p=float(stats.mannwhitneyu(one, other).pvalue) if several else None,
        ratio=None,
        ratio_interval=None,
    )


def _comparison(arm, reference, metric, **found):
    item = {"arm": arm, "reference": reference, "metric": metric, **found}
    return {**item, "verdict": verdict(item)}


def verdict(item):
    """Returns one sentence that the interval supports."""
    what = f"in {METRICS[item['metric']]}"
    n = f"n = {item['n']}"
    arm, reference = f"`{item['arm']}`", f"`{item['reference']}`"
    if item["interval"] is None:
        return f"Too few seeds to compare {arm} with {reference} {what} ({n})."
    low, high = item["interval"]
    between = f"{low:+.2f} to {high:+.2f} points, {n}"
    if low <= 0 <= high:
        return (
            f"No difference seen between {arm} and {reference} {what} "
            f"({between})."
        )
    than = "higher" if low > 0 else "lower"
    size = abs(item["difference"])
    return (
        f"{arm} is {than} than {reference} {what} by {size:.2f} points "
        f"({between})."
    )


def _column(rows, metric):
    rows = rows.values() if isinstance(rows, dict) else rows
    return 100 * np.array([row[metric] for row in rows])


def _mean_difference(one, other, axis):
    return one.mean(axis) - other.mean(axis)


def _ratio(one, other):
    """Returns the ratio of two variances, resampled in pairs."""
    nothing = {"ratio": None, "ratio_interval": None}
    if len(one) < 2 or not other.var():
        return nothing
    ratio = float(one.var(ddof=1) / other.var(ddof=1))
    if len(one) < RATIO_MINIMUM:
        return {"ratio": ratio, "ratio_interval": None}
    interval = _bootstrap((one, other), _variance_ratio, paired=True)
    return {"ratio": ratio, "ratio_interval": interval}


def _variance_ratio(one, other, axis):
    # A resample may repeat a single seed, and so have no variance.
    least = 1e-12
    return (one.var(axis) + least) / (other.var(axis) + least)


def _bootstrap(samples, statistic, paired=False):
    """Returns the 95 % percentile interval, or None for a single seed."""
    if min(map(len, samples)) < 2:
        return None
    interval = stats.bootstrap(
        samples,
        statistic,
        paired=paired,
        method="percentile",
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return [float(interval.low), float(interval.high)]
