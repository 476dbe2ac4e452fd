"""What the rows of a study support: differences, verdicts and forecasts."""

import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_parewire.rewiring.validation import check_positive

SIGNIFICANCE = 0.05
# The size of an effect worth finding, in standard deviations of the paired
# differences. The rule holds for any; this one sets where it is quickest.
EFFECT = 0.5
# How many futures a forecast draws, and to how many times the seeds they reach.
FUTURES = 1000
REACH = 100

# Values by arm, then metric, then seed; the first arm is the reference.
Values = Mapping[str, Mapping[str, Mapping[int, float]]]


class Comparison(NamedTuple):
    """What the seeds say about one arm and the reference, in one metric.

    Attributes:
        arm: Name of the arm.
        reference: Name of the arm that it is compared with.
        metric: Name of the metric.
        n: Number of seeds of which both arms have a completed run.
        difference: Mean difference, arm minus reference; NaN without seeds.
        interval: Where the true mean difference lies in 95 % of studies,
            infinite where the seeds are too few to say.
        effect: The difference in standard deviations of the differences; None
            where these do not vary.
        verdict: `"higher"` (than the reference, if only by little), `"lower"`,
            `"equivalent"` or `"undecided"`; None for exploratory metrics.
    """

    arm: str
    reference: str
    metric: str
    n: int
    difference: float
    interval: tuple[float, float]
    effect: float | None
    verdict: str | None


def compare(
    values: Values,
    *,
    metric: str | None = None,
    margin: float | None = None,
) -> list[Comparison]:
    """Compares all arms with the first one, over the seeds that both have.

    You may look after any number of seeds. With `n` differences of mean `d` and
    standard deviation `s`, `c = 0.5`, `g = 1 + n c^2` and `m` arms that are
    compared,

    ```text
    k = (sqrt(g) m / 0.05)^(2 / n)
    interval = d ± s sqrt((n - 1) / n (k - 1) / (1 - k / g))
    ```

    and infinite where `k >= g`, or where all differences are the same but not
    0, for then probably nothing in the runs depends on the seed. For
    independent normal differences, in at least 95 % of studies, all intervals
    of a metric contain the true difference: for all arms and after any number
    of seeds. An arm is higher or lower if its interval leaves out 0, and
    equivalent if the interval lies within the margin. So at most 5 % of studies
    ever give a wrong verdict.

    Example:

    >>> from keras_parewire.studies import compare
    >>> plain = {seed: 0.90 + 0.01 * (seed % 3) for seed in range(12)}
    >>> pa = {seed: value + 0.01 * (seed % 2) for seed, value in plain.items()}
    >>> values = {"plain": {"accuracy": plain}, "pa": {"accuracy": pa}}
    >>> [found] = compare(values, margin=0.02)
    >>> found.arm, found.n, found.verdict
    ('pa', 12, 'equivalent')

    Args:
        values: The numbers as a dict by arm of dicts by metric of dicts by
            seed. The first arm is the reference.
        metric: The metric that verdicts are about. Defaults to the first one.
        margin: A difference in this metric that is too small to matter (half
            the width of what is called a region of practical equivalence
            elsewhere). Defaults to None, and no arm is equivalent.

    Returns:
        A list with a `Comparison` for each metric and arm, those of `metric`
        first.

    Raises:
        ValueError: If `metric` is unknown, `margin` is not positive, or a
            number is NaN or infinite.
        TypeError: If `margin` is not a number.

    Reference:

    - [Rouder et al., 2009](https://doi.org/10.3758/PBR.16.2.225): the Bayes
        factor whose bound of `m / 0.05` the interval solves
    - [Grünwald et al., 2024](https://doi.org/10.1093/jrsssb/qkae011) and
        [Wang and Ramdas, 2024](https://arxiv.org/abs/2310.03722): why it may
        be looked at any time
    """
    if margin is not None:
        check_positive(margin, "margin")
    if not values:
        raise ValueError("`values` must hold an arm. Received: values={}")
    reference, *arms = values
    metrics = [*dict.fromkeys(name for arm in values.values() for name in arm)]
    if metric is not None:
        if metrics and metric not in metrics:
            raise ValueError(
                f"`metric` must be one of the metrics of the runs, {metrics}. "
                f"Received: metric={metric!r}"
            )
        metrics = [metric, *(name for name in metrics if name != metric)]
    comparisons = []
    for name, arm in itertools.product(metrics, arms):
        differences = paired_differences(values, arm, name)
        n = len(differences)
        mean = float(differences.mean()) if n else math.nan
        # Equal differences do not tell how others would vary, unless the arms
        # are the same in all seeds.
        varies = n > 0 and float(np.ptp(differences)) > 0
        # By a power of 2 near the largest, or squares may overflow or vanish.
        unit = 2.0 ** np.frexp(np.abs(differences).max(initial=0))[1]
        spread = (differences / unit).std(ddof=1) * unit if varies else 0
        deviation = float(spread)
        width, low, high = half_width(n, len(arms)), -math.inf, math.inf
        if width < math.inf and (varies or not mean):
            low, high = mean - width * deviation, mean + width * deviation
        verdict = None
        if name == metrics[0]:
            verdict = "undecided"
            if low > 0 or high < 0:
                verdict = "higher" if low > 0 else "lower"
            if margin is not None and -margin < low <= high < margin:
                verdict = "equivalent"
        effect = mean / deviation if deviation else None
        about = (arm, reference, name, n, mean, (low, high), effect)
        comparisons.append(Comparison(*about, verdict))
    return comparisons


def undecided_arms(
    values: Values, *, metric: str | None = None, margin: float | None = None
) -> list[str]:
    """Returns the arms that another seed could decide, with the reference."""
    found = compare(values, metric=metric, margin=margin)
    decided = {x.arm for x in found if x.verdict not in (None, "undecided")}
    reference, *arms = values
    undecided = [arm for arm in arms if arm not in decided]
    # One arm alone is never decided.
    return [reference, *undecided] if undecided or not arms else []


def columns(
    rows: Iterable[Mapping[str, Any]], arms: Iterable[str]
) -> dict[str, dict[str, dict[int, float]]]:
    """Sorts the metrics of completed runs by arm, metric and seed."""
    found: dict[str, dict[str, dict[int, float]]] = {arm: {} for arm in arms}
    for row in rows:
        for name, value in (row["metrics"] or {}).items():
            found[row["arm"]].setdefault(name, {})[row["seed"]] = value
    return found


def paired_differences(values: Values, arm: str, metric: str) -> np.ndarray:
    """Returns an arm's differences from the reference, ordered by seed."""
    reference = next(iter(values))
    one, other = (values[name].get(metric, {}) for name in (arm, reference))
    seeds = sorted(one.keys() & other.keys())
    found = np.array([one[seed] - other[seed] for seed in seeds], float)
    if not np.isfinite(found).all():
        raise ValueError(
            "Numbers to compare must be finite: leave failed runs out. "
            f"Received: NaN or infinity in {metric!r} of {arm!r} or "
            f"{reference!r}"
        )
    return found


@functools.cache
def half_width(n: int, arms: int) -> float:
    """Returns half an interval of `compare` in standard deviations."""
    if not n:
        return math.inf
    g = 1 + n * EFFECT**2
    k = (math.sqrt(g) * arms / SIGNIFICANCE) ** (2 / n)
    return math.sqrt((n - 1) / n * (k - 1) / (1 - k / g)) if k < g else math.inf


def seeds_to_verdict(
    differences: np.ndarray, arms: int, margin: float | None = None
) -> tuple[float, float]:
    """Forecasts how many more seeds it takes until `compare` has a verdict.

    Futures are drawn from what the seeds leave open: normal differences, whose
    mean and standard deviation have the usual priors (the t distribution).
    Returns their tenth and ninetieth percentile, infinite beyond `REACH`.
    """
    n, generator = len(differences), np.random.default_rng(0)
    mean, squares = differences.mean(), differences.var() * n
    size = (FUTURES, 1)
    scale = np.sqrt(squares / generator.chisquare(n - 1, size))
    # Relative to the mean, so that nothing cancels.
    true = scale / math.sqrt(n) * generator.standard_normal(size)
    # Looks are a few percent apart, for differences come in blocks.
    looks = np.unique(np.ceil(n * 1.03 ** np.arange(math.log(REACH, 1.03))))
    looks = looks[looks > n]
    blocks = np.diff(looks, prepend=n)
    shape = (FUTURES, len(blocks))
    means = true + scale / np.sqrt(blocks) * generator.standard_normal(shape)
    within = 2 * scale**2 * generator.standard_gamma((blocks - 1) / 2, shape)
    total = np.cumsum(blocks * means, axis=1)
    squares = squares + np.cumsum(within + blocks * means**2, axis=1)
    found = np.abs(mean + total / looks)
    deviation = np.sqrt((squares - total**2 / looks) / (looks - 1))
    width = np.array([half_width(int(look), arms) for look in looks])
    decided = found > width * deviation
    if margin is not None:
        decided |= found + width * deviation < margin
    more = np.where(
        decided.any(axis=1), looks[decided.argmax(axis=1)] - n, math.inf
    )
    low, high = np.quantile(more, (0.1, 0.9), method="inverted_cdf")
    return float(low), float(high)
