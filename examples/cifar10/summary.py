"""What the rows of the CIFAR-10 study support, in numbers and in words."""

import math

import numpy as np
from planned import SIGNIFICANCE, compare_planned, holm, repeated_arms
from scipy import stats

from keras_parewire.studies.statistics import columns

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
# Their seeds count candidates: seed 3 of one arm has no partner in another.
UNPAIRED = ("highest", "lowest")
# With fewer pairs, the signed-rank test cannot reach it.
LEAST_PAIRS = 6
# With fewer seeds, the interval of a variance ratio means little.
RATIO_MINIMUM = 5


def measured(rows):
    """Returns all numbers of completed runs by arm, metric and seed."""
    rows = [row for row in rows if row["metrics"]]
    return columns(rows, dict.fromkeys(row["arm"] for row in rows))


def percentages(found):
    """Returns the accuracies by arm, metric and seed, in %."""
    return {
        arm: {
            metric: {seed: 100 * x for seed, x in metrics[metric].items()}
            for metric in METRICS
        }
        for arm, metrics in found.items()
    }


def summarize(found):
    """Summarizes what was measured; accuracies in %."""
    found = percentages(found)
    comparisons = []
    pairs = [(arm, "base") for arm in found if arm not in (*UNPAIRED, "base")]
    for arm, reference in (*pairs, *PAIRS):
        if {arm, reference} <= set(found):
            comparisons += compare_paired(found, arm, reference)
    if set(UNPAIRED) <= set(found):
        comparisons += _compare_unpaired(found, *UNPAIRED)
    repeated = repeated_arms(found)
    for metric in METRICS:
        items = [item for item in comparisons if item["metric"] == metric]
        # All comparisons of a metric are corrected together.
        corrected = holm([item["p"] for item in items])
        for item, p in zip(items, corrected, strict=True):
            item["p_holm"] = p
            pair = item["arm"], item["reference"]
            item["repeated"] = [arm for arm in pair if arm in repeated]
            item["verdict"] = verdict(item)
    return {
        "arms": {
            arm: {
                "n": len(metrics["test_accuracy"]),
                **{
                    metric: _moments(list(values.values()))
                    for metric, values in metrics.items()
                },
            }
            for arm, metrics in found.items()
        },
        "comparisons": comparisons,
    }


def compare_paired(found, arm, reference):
    """Compares two arms over the seeds that both have, in each metric."""
    comparisons = []
    for item in compare_planned({a: found[a] for a in (reference, arm)}):
        one, other = found[arm][item.metric], found[reference][item.metric]
        seeds = sorted(one.keys() & other.keys())
        if not seeds:
            continue
        ratio, interval = _variance_ratio(
            np.array([one[seed] for seed in seeds]),
            np.array([other[seed] for seed in seeds]),
        )
        comparisons.append(
            {
                "arm": arm,
                "reference": reference,
                "metric": item.metric,
                "n": item.n,
                "difference": item.difference,
                "interval": None
                if math.isinf(item.interval[1])
                else list(item.interval),
                "p": item.p,
                "ratio": ratio,
                "ratio_interval": interval,
            }
        )
    return comparisons


def verdict(item):
    """Returns one sentence that the interval and the corrected p support."""
    arm, reference = f"`{item['arm']}`", f"`{item['reference']}`"
    what, n = f"in {METRICS[item['metric']]}", f"n = {item['n']}"
    if item["repeated"]:
        same = " and of ".join(f"`{name}`" for name in item["repeated"])
        n += f", but all runs of {same} are the same"
    pairs = item["n"] if isinstance(item["n"], int) else math.inf
    if item["interval"] is None or pairs < LEAST_PAIRS:
        return f"Too few seeds to compare {arm} with {reference} {what} ({n})."
    low, high = item["interval"]
    between = f"{low:+.2f} to {high:+.2f} points, {n}"
    excludes, rejects = low > 0 or high < 0, item["p_holm"] <= SIGNIFICANCE
    if excludes and rejects:
        return (
            f"{arm} is {'higher' if low > 0 else 'lower'} than {reference} "
            f"{what} by {abs(item['difference']):.2f} points ({between})."
        )
    if excludes or rejects:
        return (
            f"{arm} and {reference} may differ {what} ({between}): the "
            f"interval {'leaves out' if excludes else 'contains'} 0, but the "
            f"corrected test {'rejects' if rejects else 'does not reject'} it "
            f"(p = {item['p_holm']:.2g})."
        )
    return (
        f"No difference seen between {arm} and {reference} {what} ({between})."
    )


def _moments(values):
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
    }


def _compare_unpaired(found, arm, reference):
    """Compares two groups that have no seeds in common, in each metric."""
    comparisons = []
    for metric in METRICS:
        groups = [
            np.array([*found[a][metric].values()]) for a in (arm, reference)
        ]
        p = interval = None
        if min(map(len, groups)) > 1:
            p = float(stats.mannwhitneyu(*groups).pvalue)
            # Welch's interval: the groups may spread differently.
            test = stats.ttest_ind(*groups, equal_var=False)
            interval = [float(end) for end in test.confidence_interval(0.95)]
        comparisons.append(
            {
                "arm": arm,
                "reference": reference,
                "metric": metric,
                "n": " + ".join(str(len(group)) for group in groups),
                "difference": float(groups[0].mean() - groups[1].mean()),
                "interval": interval,
                "p": p,
                "ratio": None,
                "ratio_interval": None,
            }
        )
    return comparisons


def _variance_ratio(one, other):
    """Returns the ratio of two variances and its bootstrap interval of 95 %."""
    if len(one) < 2 or not other.var():
        return None, None
    ratio = float(one.var(ddof=1) / other.var(ddof=1))
    if len(one) < RATIO_MINIMUM:
        return ratio, None
    # A resample may repeat a single seed, and so have no variance.
    least = 1e-12 * other.var()
    interval = stats.bootstrap(
        (one, other),
        lambda a, b, axis: (a.var(axis) + least) / (b.var(axis) + least),
        paired=True,
        method="percentile",
        # The same study always gets the same report.
        rng=np.random.default_rng(0),
    ).confidence_interval
    return ratio, [float(interval.low), float(interval.high)]
