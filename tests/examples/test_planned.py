import math

import numpy as np
import pytest
from planned import compare_planned, holm
from scipy import stats

pytestmark = pytest.mark.any_backend


def values_of(*samples):
    """Values of a reference, which is 0, and of arms with these differences."""
    arms = {f"arm{i}": sample for i, sample in enumerate(samples)}
    arms = {"plain": np.zeros(max(map(len, samples))), **arms}
    return {
        arm: {"a": dict(enumerate(map(float, sample)))}
        for arm, sample in arms.items()
    }


def normal(n, mean=0.0, seed=0):
    """A sample with exactly this mean and a standard deviation of 1."""
    sample = np.random.default_rng(seed).normal(size=n)
    return (sample - sample.mean()) / sample.std(ddof=1) + mean


def test_planned_comparison_is_that_of_textbooks():
    samples = [normal(12, 0.7, 3), normal(12, 1.5), normal(12, 0.7, 4)]
    found = compare_planned(values_of(*samples))
    tests = [stats.wilcoxon(sample).pvalue for sample in samples]
    for item, sample, p in zip(found, samples, holm(tests), strict=True):
        interval = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
        np.testing.assert_allclose(item.interval, interval)
        assert item.p == p
    # All leave out 0, and their own tests would reject it.
    assert min(item.interval[0] for item in found) > 0
    assert max(tests) < 0.05
    assert [item.verdict for item in found] == [
        "undecided",
        "higher",
        "undecided",
    ]


def test_few_seeds():
    plain, pa = {0: 1.0, 1: 2.0}, {1: 2.5, 3: 9.0}
    [item] = compare_planned({"plain": {"a": plain}, "pa": {"a": pa}})
    assert item[:4] == ("pa", "a", 1, 0.5)
    assert item[4:] == ((-math.inf, math.inf), None, "undecided")
    [item] = compare_planned({"plain": {"a": plain}, "pa": {"a": {3: 9.0}}})
    assert item.n == 0
    assert math.isnan(item.difference)


def test_no_verdict_because_of_a_single_seed():
    sample = [1.0 + 0.01 * seed for seed in range(19)] + [-30.0]
    [item] = compare_planned(values_of(sample))
    assert item.p < 0.001
    assert item.interval[0] < 0 < item.interval[1]
    assert item.verdict == "undecided"


def test_two_arms_whose_runs_are_all_the_same_are_one_run():
    [item] = compare_planned(values_of([1.0] * 20))
    assert item.interval == (-math.inf, math.inf)
    assert item.verdict == "undecided"


def test_correction_for_the_number_of_comparisons():
    # By hand, as in R: p.adjust(c(0.02, 0.01, 0.03, 0.9), "holm").
    corrected = holm([0.02, 0.01, None, 0.03, 0.9])
    assert corrected.pop(2) is None
    np.testing.assert_allclose(corrected, [0.06, 0.04, 0.06, 0.9])
    assert holm([0.7] * 3) == [1, 1, 1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", range(100, 300, 40))
def test_rounding_breaks_no_ties(dtype, level):
    # Numbers of right answers of 360, whose quotients are rounded.
    differences = np.array([3, 2, -1, -2, -1, 1, 3, 2, 4, 3, 0])
    right = level + np.arange(11)
    plain, pa = (
        dict(enumerate((counts / 360).astype(dtype).astype(float)))
        for counts in (right, right + differences)
    )
    [item] = compare_planned({"plain": {"a": plain}, "pa": {"a": pa}})
    assert item.p == stats.wilcoxon(differences).pvalue
    np.testing.assert_allclose(item.difference, differences.mean() / 360, 1e-5)


def test_small_differences_of_large_numbers_are_no_rounding():
    plain = {seed: 1e6 + seed for seed in range(9)}
    pa = {seed: plain[seed] + 0.01 * (1 + seed) for seed in plain}
    [item] = compare_planned({"plain": {"a": plain}, "pa": {"a": pa}})
    np.testing.assert_allclose(item.difference, 0.05, rtol=1e-5)
    assert item.p == 2 / 2**9
