"""The usual paired tests, for a number of seeds that was fixed in advance.

They need slightly fewer seeds than the verdicts of `keras_parewire.studies`,
but are not valid if one looks at the results and then goes on.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy import stats

SIGNIFICANCE = 0.05


class Planned(NamedTuple):
    """What the seeds say about one arm and the reference, in one metric.

    Attributes:
        arm: Name of the arm.
        metric: Name of the metric.
        n: Number of seeds of which both arms have a completed run.
        difference: Mean difference, arm minus reference; NaN without seeds.
        interval: Its paired t interval of 95 %.
        p: Wilcoxon's signed-rank test, corrected for the number of arms (Holm);
            None with fewer than two seeds.
        verdict: `"higher"` or `"lower"` if the interval leaves out 0 and the
            test rejects it, else `"undecided"`.
    """

    arm: str
    metric: str
    n: int
    difference: float
    interval: tuple[float, float]
    p: float | None
    verdict: str


def compare_planned(values):
    """Compares all arms with the first one, over the seeds that both have.

    Args:
        values: The numbers as `keras_parewire.studies.compare` takes them.

    Returns:
        A list with a `Planned` for each metric and arm.
    """
    reference, *arms = values
    metrics = dict.fromkeys(name for arm in values.values() for name in arm)
    repeated = repeated_arms(values)
    found = []
    for metric in metrics:
        samples = [
            paired_differences(values[arm], values[reference], metric)
            for arm in arms
        ]
        p_values = holm([_signed_rank(sample) for sample in samples])
        for arm, sample, p in zip(arms, samples, p_values, strict=True):
            n = len(sample)
            mean = float(sample.mean()) if n else math.nan
            low, high = -math.inf, math.inf
            # Otherwise all seeds are one run.
            if n > 1 and not {arm, reference} <= repeated.keys():
                low, high = interval(sample)
            verdict = "undecided"
            if (low > 0 or high < 0) and p <= SIGNIFICANCE:
                verdict = "higher" if low > 0 else "lower"
            found.append(Planned(arm, metric, n, mean, (low, high), p, verdict))
    return found


def repeated_arms(values):
    """Returns the arms whose runs are all the same, with their number."""
    repeated = {}
    for arm, by_metric in values.items():
        samples = [[*by_seed.values()] for by_seed in by_metric.values()]
        runs = max(map(len, samples), default=0)
        if runs > 1 and all(len(set(sample)) < 2 for sample in samples):
            repeated[arm] = runs
    return repeated


def paired_differences(one, other, metric):
    """Returns the differences of two arms by seed, with their ties restored.

    Accuracies are multiples of one over the number of examples, so that many
    differences are of the same size. A test of ranks must not see them apart by
    rounding.
    """
    first, second = one.get(metric, {}), other.get(metric, {})
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return np.zeros(0)
    pairs = np.array([(first[seed], second[seed]) for seed in seeds], float)
    differences = pairs[:, 0] - pairs[:, 1]
    sizes = np.abs(differences)
    order = np.argsort(sizes)
    # Four units in the last place of float32, in which Keras measures, but
    # nothing that could be a difference by itself.
    rounding = min(
        2.0**-22 * np.abs(pairs).max(), 1e-3 * float(np.median(sizes))
    )
    starts = np.diff(sizes[order], prepend=0.0) > rounding
    level = np.where(starts, sizes[order], 0.0)
    sizes[order] = np.maximum.accumulate(level)
    return np.sign(differences) * sizes


def holm(p_values):
    """Corrects p-values that are not None for their number (Holm, 1979)."""
    corrected = list(p_values)
    tested = [(p, i) for i, p in enumerate(p_values) if p is not None]
    largest = 0.0
    for rank, (p, i) in enumerate(sorted(tested)):
        # A larger p is never corrected to less than a smaller one.
        largest = max(largest, p * (len(tested) - rank))
        corrected[i] = min(largest, 1.0)
    return corrected


def interval(differences):
    """Returns the t interval of the mean of at least two differences."""
    mean = float(differences.mean())
    half = _t_half_width(len(differences)) * float(differences.std(ddof=1))
    return mean - half, mean + half


@functools.cache
def _t_half_width(n):
    """Returns half a t interval in standard deviations."""
    return float(stats.t.ppf(1 - SIGNIFICANCE / 2, n - 1)) / math.sqrt(n)


def _signed_rank(differences):
    """Returns the p of Wilcoxon's signed-rank test, two-sided."""
    if len(differences) < 2:
        return None
    # The test is not defined where nothing differs.
    return (
        float(stats.wilcoxon(differences).pvalue) if any(differences) else 1.0
    )
