import math

import numpy as np
import pytest
from scipy import stats

from keras_parewire.studies import compare
from keras_parewire.studies.forecast import seeds_to_verdict
from keras_parewire.studies.statistics import half_width, holm

pytestmark = pytest.mark.any_backend


def values_of(*samples, metric="accuracy"):
    """Values of a reference, which is 0, and of arms with these differences."""
    arms = {f"arm{i}": sample for i, sample in enumerate(samples)}
    arms = {"plain": np.zeros(max(map(len, samples))), **arms}
    return {
        arm: {metric: dict(enumerate(map(float, sample)))}
        for arm, sample in arms.items()
    }


def normal(n, mean=0.0, seed=0):
    """A sample with exactly this mean and a standard deviation of 1."""
    sample = np.random.default_rng(seed).normal(size=n)
    return (sample - sample.mean()) / sample.std(ddof=1) + mean


@pytest.mark.parametrize(("n", "arms"), [(10, 1), (20, 1), (20, 8), (60, 3)])
def test_interval_solves_the_bayes_factor(n, arms):
    """At its end, a normal effect of 0.5 is `arms / 0.05` times as likely."""
    found = compare(values_of(*[normal(n, seed=i) for i in range(arms)]))
    for item in found:
        low, high = item.interval
        np.testing.assert_allclose(low, -high)
        t = math.sqrt(n) * high

        effects = np.linspace(-3, 3, 601)
        likelihood = stats.nct.pdf(t, n - 1, math.sqrt(n) * effects)
        prior = stats.norm.pdf(effects, scale=0.5)
        marginal = (likelihood * prior).sum() * 0.01
        factor = marginal / stats.t.pdf(t, n - 1)
        np.testing.assert_allclose(factor, arms / 0.05, rtol=1e-4)


@pytest.mark.parametrize(("arms", "least"), [(1, 7), (2, 8), (8, 10)])
def test_few_seeds_have_no_interval(arms, least):
    for n in (0, 1, 2, least - 1, least):
        found = compare(values_of(*[normal(n) + 99] * arms)) if n > 1 else None
        assert (half_width(n, arms) < math.inf) == (n == least)
        if found:
            verdict = "higher" if n == least else "undecided"
            assert {item.verdict for item in found} == {verdict}


def test_comparison_by_hand():
    plain = {0: 1.0, 1: 2.0, 2: 4.0, 5: 3.0}
    pa = {1: 2.5, 2: 4.0, 3: 9.0, 5: 4.0}
    values = {"plain": {"a": plain}, "pa": {"a": pa}}
    [item] = compare(values)
    assert item[:5] == ("pa", "plain", "a", 3, 0.5)
    assert item.interval == (-math.inf, math.inf)
    assert item.effect == 1.0
    assert (item.verdict, item.p) == ("undecided", None)
    values["pa"]["a"] = {7: 1.0}
    [item] = compare(values)
    assert (item.n, item.effect, item.verdict) == (0, None, "undecided")
    assert math.isnan(item.difference)
    assert compare({"plain": {"a": plain}}) == []


@pytest.mark.parametrize(
    ("mean", "margin", "verdict"),
    [
        (2.0, None, "higher"),
        (-2.0, None, "lower"),
        (0.1, None, "undecided"),
        (0.1, 1.0, "equivalent"),
        (0.1, 0.4, "undecided"),
        # A clear difference that is too small to matter, and one that is not.
        (0.8, 2.0, "equivalent"),
        (-0.8, 0.5, "lower"),
    ],
)
def test_verdicts(mean, margin, verdict):
    for planned in (False, True):
        [item] = compare(
            values_of(normal(30, mean)), margin=margin, planned=planned
        )
        assert item.verdict == verdict


def test_only_one_metric_has_verdicts():
    sample = normal(30, 2.0)
    values = values_of(sample)
    for arm, metrics in values.items():
        metrics["loss"] = {seed: -x for seed, x in metrics["accuracy"].items()}
        assert arm in values
    found = compare(values)
    assert [(item.metric, item.verdict) for item in found] == [
        ("accuracy", "higher"),
        ("loss", None),
    ]
    found = compare(values, metric="loss")
    assert [(item.metric, item.verdict) for item in found] == [
        ("loss", "lower"),
        ("accuracy", None),
    ]
    assert found[1].interval == compare(values)[0].interval
    with pytest.raises(ValueError, match="Received: metric='x'"):
        compare(values, metric="x")


@pytest.mark.parametrize("margin", [0, -1, "1", True, math.nan, math.inf])
def test_wrong_margins(margin):
    with pytest.raises(ValueError, match="Received: margin="):
        compare(values_of(normal(8)), margin=margin)


def test_planned_comparison_is_that_of_textbooks():
    samples = [normal(12, 0.7, 3), normal(12, 1.5), normal(12, 0.7, 4)]
    found = compare(values_of(*samples), planned=True)
    tests = [stats.wilcoxon(sample).pvalue for sample in samples]
    for item, sample, p in zip(found, samples, holm(tests), strict=True):
        interval = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
        np.testing.assert_allclose(item.interval, interval)
        assert item.p == p
        expected = "higher" if p <= 0.05 else "undecided"
        assert item.verdict == expected
    # The others leave out 0 too, and their own tests would reject it.
    assert [item.verdict for item in found] == [
        "undecided",
        "higher",
        "undecided",
    ]
    assert max(tests) < 0.05
    assert min(item.interval[0] for item in found) > 0


def test_planned_equivalence_is_corrected_for_the_number_of_arms():
    sample = normal(20)
    [one] = compare(values_of(sample), margin=0.5, planned=True)
    several = compare(values_of(*[sample] * 8), margin=0.5, planned=True)
    assert one.verdict == "equivalent"
    assert {item.verdict for item in several} == {"undecided"}
    assert {item.interval for item in several} == {one.interval}


def test_no_planned_verdict_because_of_a_single_seed():
    sample = [1.0 + 0.01 * seed for seed in range(19)] + [-30.0]
    [item] = compare(values_of(sample), planned=True)
    assert item.p < 0.001
    assert item.interval[0] < 0 < item.interval[1]
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
    values = {"plain": {"a": plain}, "pa": {"a": pa}}
    [item] = compare(values, planned=True)
    assert item.p == stats.wilcoxon(differences).pvalue
    np.testing.assert_allclose(item.difference, differences.mean() / 360, 1e-5)


def test_small_differences_of_large_numbers_are_no_rounding():
    plain = {seed: 1e6 + seed for seed in range(9)}
    pa = {seed: plain[seed] + 0.01 * (1 + seed) for seed in plain}
    values = {"plain": {"a": plain}, "pa": {"a": pa}}
    [item] = compare(values, planned=True)
    np.testing.assert_allclose(item.difference, 0.05, rtol=1e-5)
    assert item.p == 2 / 2**9


def test_differences_that_are_the_same_but_for_rounding_do_not_vary():
    plain = {seed: 0.1 * seed for seed in range(8)}
    pa = {seed: value + 0.1 for seed, value in plain.items()}
    [item] = compare({"plain": {"a": plain}, "pa": {"a": pa}})
    assert item.effect is None
    assert item.interval == (item.difference, item.difference)


def test_two_arms_whose_runs_are_all_the_same_are_one_run():
    for planned in (False, True):
        [item] = compare(values_of([1.0] * 20), planned=planned)
        assert item.interval == (-math.inf, math.inf)
        assert item.verdict == "undecided"


@pytest.mark.parametrize(
    ("arms", "margin", "true"), [(1, None, 0.6), (3, None, 0.6), (1, 0.6, 0.0)]
)
def test_forecasts_hold_for_most_futures(arms, margin, true):
    """The future of a pilot study is within four of five forecasts or more."""
    generator = np.random.default_rng(0)
    inside = below = undecided = 0
    for _ in range(60):
        sample = generator.normal(true, size=400)
        for n in range(15, 401):
            mean, spread = sample[:n].mean(), sample[:n].std(ddof=1)
            half = half_width(n, arms) * spread
            if abs(mean) > half or abs(mean) + half < (margin or 0):
                break
        if n > 15:
            least, most = seeds_to_verdict(sample[:15], arms, margin)
            assert half_width(15 + int(least), arms) < math.inf
            undecided += 1
            below += n - 15 < least
            inside += least <= n - 15 <= most
    assert undecided > 40
    assert inside / undecided > 0.75
    assert below / undecided < 0.2
