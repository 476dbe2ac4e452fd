import math

import numpy as np
import pytest
from scipy import stats

from keras_parewire.studies import compare
from keras_parewire.studies.statistics import half_width, seeds_to_verdict

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
    assert item.verdict == "undecided"
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
    [item] = compare(values_of(normal(30, mean)), margin=margin)
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
    error = TypeError if margin in ("1", True) else ValueError
    with pytest.raises(error, match="Received: margin="):
        compare(values_of(normal(8)), margin=margin)


@pytest.mark.parametrize("unit", [1e-200, 1e-165, 1e165, 1e300])
def test_verdicts_do_not_depend_on_the_unit(unit):
    sample = normal(12, 1.0)
    [found] = compare(values_of(sample))
    [item] = compare(values_of(sample * unit))
    assert item.verdict == found.verdict
    assert item.effect == pytest.approx(found.effect)
    assert item.interval[0] == pytest.approx(unit * found.interval[0])


def test_values_that_cannot_be_compared():
    with pytest.raises(ValueError, match=r"Received: values=\{\}"):
        compare({})
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="Received: NaN or infinity"):
            compare(values_of([0.1, bad, 0.3]))


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_differences_that_are_all_the_same_are_one_run(value):
    [item] = compare(values_of([value] * 20), margin=2.0)
    known = value == 0.0
    assert item.interval == ((0, 0) if known else (-math.inf, math.inf))
    assert item.verdict == ("equivalent" if known else "undecided")


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
