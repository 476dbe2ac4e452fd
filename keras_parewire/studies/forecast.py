"""How many more seeds a verdict probably takes."""

import math

import numpy as np

from keras_parewire.studies.statistics import half_width

# How many futures are drawn, and how far they reach, in multiples of the seeds
# that there are.
FUTURES = 1000
REACH = 100


def seeds_to_verdict(
    differences: np.ndarray, arms: int, margin: float | None = None
) -> tuple[float, float]:
    """Forecasts how many more seeds it takes until `compare` has a verdict.

    Futures are drawn from what the seeds leave open: normal differences, whose
    mean and standard deviation have the usual priors (the t distribution).

    Args:
        differences: The paired differences so far, two or more that vary.
        arms: Number of arms that are compared.
        margin: As in `compare`.

    Returns:
        The tenth and the ninetieth percentile, infinite beyond `REACH`.
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
