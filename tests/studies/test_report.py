import re

import numpy as np
import pytest
from scipy import stats

from keras_parewire.studies import report as reports
from keras_parewire.studies import statistics
from keras_parewire.studies.figures import plot_differences
from keras_parewire.studies.sentences import power_sentence, verdict


def made_up(seeds=8, shift=0.02, noise=0.1):
    normal = np.random.default_rng(0).normal(0, 0.01, (2, seeds))
    plain = 0.5 + normal[0]
    pa = plain + shift + noise * normal[1]
    return {
        arm: {"accuracy": dict(enumerate(map(float, values)))}
        for arm, values in {"plain": plain, "pa": pa}.items()
    }


def rows_of(found, config=None):
    identity = {"config": config or {}, "environment": {"keras": "3"}}
    return [
        {
            "arm": arm,
            "seed": seed,
            "metrics": {"accuracy": value},
            "error": None,
            "identity": identity,
        }
        for arm, metrics in found.items()
        for seed, value in metrics["accuracy"].items()
    ]


def test_comparison_by_hand():
    found = made_up()
    plain, pa = (
        np.array([*found[arm]["accuracy"].values()]) for arm in ("plain", "pa")
    )
    [item] = reports.compare(found)
    assert (item["arm"], item["reference"]) == ("pa", "plain")
    np.testing.assert_allclose(item["difference"], (pa - plain).mean())
    np.testing.assert_allclose(item["ratio"], pa.var() / plain.var())
    # All eight differences have one sign: two of 2**8 cases.
    np.testing.assert_allclose(item["p"], 2 / 2**8)
    half = 1.96 * (pa - plain).std() / np.sqrt(8)
    low, high = item["interval"]
    np.testing.assert_allclose(low, item["difference"] - half, atol=2e-4)
    np.testing.assert_allclose(high, item["difference"] + half, atol=2e-4)
    assert item["ratio_interval"][0] < item["ratio"] < item["ratio_interval"][1]
    assert reports.compare(found) == [item]


def test_pairs_are_the_seeds_that_both_have():
    one = {0: 1.0, 1: 2.0, 2: 4.0}
    other = {1: 1.0, 2: 2.0, 3: 9.0}
    item = statistics.compare_paired(one, other)
    assert item["n"] == 2
    assert item["difference"] == 1.5
    assert statistics.compare_paired({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
def test_ratios_do_not_depend_on_the_unit(scale):
    values = made_up()
    one, other = (
        {seed: scale * value for seed, value in values[arm]["accuracy"].items()}
        for arm in ("pa", "plain")
    )
    expected = statistics.compare_paired(
        values["pa"]["accuracy"], values["plain"]["accuracy"]
    )
    item = statistics.compare_paired(one, other)
    np.testing.assert_allclose(
        item["ratio_interval"], expected["ratio_interval"], rtol=1e-6
    )


def test_groups_by_hand():
    one, other = [30.0, 20.0, 25.0], [50.0, 60.0, 55.0, 52.0]
    item = statistics.compare_groups(one, other)
    np.testing.assert_allclose(item["difference"], 25 - np.mean(other))
    # The most extreme of 7 over 3 orders, on both sides.
    np.testing.assert_allclose(item["p"], 2 / 35)
    assert item["n"] == "3 + 4"


def test_correction_for_the_number_of_comparisons():
    # By hand, as in R: p.adjust(c(0.02, 0.01, 0.03, 0.9), "holm").
    plain = {"x": [0.02, 0.01, 0.03, 0.9], "y": [0.04, None]}
    items = [
        {"metric": metric, "p": p} for metric, ps in plain.items() for p in ps
    ]
    adjusted = statistics.adjust(items)
    assert [item["metric"] for item in adjusted] == [*"xxxxyy"]
    holm = [item["p_holm"] for item in adjusted]
    np.testing.assert_allclose(holm[:5], [0.06, 0.04, 0.06, 0.9, 0.04])
    assert holm[5] is None
    ones = statistics.adjust([{"metric": "x", "p": 0.7}] * 3)
    assert [item["p_holm"] for item in ones] == [1, 1, 1]


def test_report_has_the_corrected_values():
    found = {**made_up(), "other": made_up(noise=0.5)["pa"]}
    items = reports.compare(found)
    assert [item["p_holm"] for item in items] == [2 * 2 / 2**8] * 2
    text = reports.report(rows_of(found), list(found))
    assert "| p | p (Holm) |" in text
    assert "| 0.0078 | 0.016 |" in text


@pytest.mark.parametrize("difference", [0.3, 0.5, 1.0, -1.0, 3.0])
def test_seeds_needed_are_the_least_with_that_power(difference):
    count = statistics.seeds_needed(1.0, difference)
    assert statistics._power(count, abs(difference)) >= 0.8
    assert count == 2 or statistics._power(count - 1, abs(difference)) < 0.8


def test_seeds_needed_agree_with_published_tables():
    # Cohen's d of 0.2, 0.5 and 0.8, paired t-test, 5 % two-sided, 80 %.
    needed = [statistics.seeds_needed(1.0, d) for d in (0.2, 0.5, 0.8)]
    assert needed == [199, 34, 15]


def test_power_by_simulation():
    size = statistics.detectable_difference(2.0, 12)
    draws = np.random.default_rng(0).normal(size, 2.0, (4000, 12))
    found = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert abs(found - 0.8) < 0.025
    assert statistics.seeds_needed(2.0, size) == 12


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ([0.01, 0.03], "`pa` is higher than `plain` in x by 0.02 (+0.01 to "),
        ([-0.03, -0.01], "`pa` is lower than `plain` in x by 0.02 (-0.03 to "),
        ([-0.01, 0.05], "No difference seen between `pa` and `plain` in x"),
        ([0.0, 0.05], "No difference seen between `pa` and `plain` in x"),
        (None, "Too few seeds to compare `pa` with `plain` in x (n = 8"),
    ],
    ids=str,
)
def test_verdicts(interval, expected):
    item = {
        "arm": "pa",
        "reference": "plain",
        "metric": "x",
        "n": 8,
        "difference": 0.02,
        "interval": interval,
        "p": 0.5 if expected.startswith("No") else 0.05,
    }
    assert verdict(item).startswith(expected)


def test_no_verdict_if_interval_and_test_disagree():
    [item] = reports.compare(made_up(seeds=6))
    text = verdict({**item, "p": 0.16})
    assert text.startswith("`pa` and `plain` may differ in accuracy (+")
    assert text.endswith("but the test does not reject it (p = 0.16).")


def test_no_verdict_because_of_a_single_seed():
    plain = dict.fromkeys(range(20), 50.0)
    pa = {seed: 51.0 + 0.01 * seed for seed in range(19)} | {19: 20.0}
    [item] = reports.compare({"plain": {"a": plain}, "pa": {"a": pa}})
    assert item["interval"][0] < 0 < item["interval"][1]
    assert verdict(item).endswith(
        "contains 0, but the test rejects it (p = 0.00071)."
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", range(100, 300, 40))
def test_rounding_breaks_no_ties(dtype, level):
    # Numbers of right answers of 360, whose quotients are rounded.
    apart = np.array([3, 2, -1, -2, -1, 1, 3, 2, 4, 3, 0])
    right = level + np.arange(11)
    plain, pa = (
        dict(enumerate((counts / 360).astype(dtype).astype(float)))
        for counts in (right, right + apart)
    )
    item = statistics.compare_paired(pa, plain)
    assert item["p"] == stats.wilcoxon(apart).pvalue
    np.testing.assert_allclose(item["difference"], apart.mean() / 360, 1e-5)


def test_small_differences_of_large_numbers_are_no_rounding():
    plain = {seed: 1e6 + seed for seed in range(9)}
    pa = {seed: plain[seed] + 0.01 * (1 + seed) for seed in plain}
    apart = statistics.paired_differences(
        np.array([*pa.values()]), np.array([*plain.values()])
    )
    np.testing.assert_allclose(apart, 0.01 * np.arange(1, 10), rtol=1e-5)
    assert statistics.compare_paired(pa, plain)["p"] == 2 / 2**9


def test_differences_that_are_the_same_but_for_rounding():
    plain = {seed: 0.1 * seed for seed in range(8)}
    pa = {seed: value + 0.1 for seed, value in plain.items()}
    found = {"plain": {"a": plain}, "pa": {"a": pa}}
    [item] = reports.compare(found)
    sentence = power_sentence(found, item)
    assert sentence.endswith("the difference is the same for all seeds.")


@pytest.mark.parametrize("seeds", [5, 6])
def test_few_seeds_give_no_verdict(seeds):
    [item] = reports.compare(made_up(seeds=seeds))
    # All differences have one sign, and the test can still not tell.
    assert (item["p"] < 0.05) == (seeds == 6)
    text = verdict(item)
    few = "Too few seeds to compare `pa` with `plain` in accuracy (n = 5, at"
    assert text.startswith(few if seeds == 5 else "`pa` is higher than")


def test_report_says_it_all():
    found = made_up()
    text = reports.report(rows_of(found, {"epochs": 3}), list(found), 0.0001)
    assert "epochs: 3." in text
    mean = np.mean([*found["pa"]["accuracy"].values()])
    assert re.search(rf"\| pa \| {mean:.4g} ± 0\.0\d+ \| 8 \| 0 \|", text)
    assert "`pa` is higher than `plain` in accuracy by 0.0" in text
    assert "more than there are" in text
    assert "nan" not in text


def test_report_without_a_difference_says_what_the_seeds_find():
    found = made_up()
    text = reports.report(rows_of(found), list(found))
    assert "8 seeds find a difference of" in text
    assert "half of it takes" in text


@pytest.mark.parametrize(
    "found",
    [
        made_up(seeds=1),
        made_up(seeds=2),
        made_up(shift=0.0, noise=0.0),
        {"plain": {"accuracy": {0: 0.5}}, "pa": {"accuracy": {}}},
        {"plain": {"accuracy": {}}, "pa": {"accuracy": {0: 0.5}}},
        {"plain": {"accuracy": {0: 0.5, 1: 0.6}}},
    ],
    ids=["one", "two", "equal", "no pa", "no plain", "one arm"],
)
def test_reports_of_few_rows(found):
    text = reports.report(rows_of(found), list(found), 0.01)
    assert "nan" not in text
    for arm in found:
        assert f"| {arm} |" in text


@pytest.mark.parametrize("seeds", [1, 8])
def test_runs_that_are_all_the_same_are_said_to_be(seeds):
    found = made_up(seeds=seeds)
    found["sinusoidal"] = {
        metric: dict.fromkeys(values, 0.5)
        for metric, values in found["plain"].items()
    }
    text = reports.report(rows_of(found), list(found))
    note = f"All {seeds} runs of `sinusoidal` gave the same numbers"
    assert (note in text) == (seeds > 1)
    assert text.count("gave the same numbers") == (seeds > 1)
    verdicts = [
        line
        for line in text.splitlines()
        if "but all runs of `sinusoidal` are the same" in line
    ]
    # Of the two comparisons with `plain`, only its own.
    assert len(verdicts) == (seeds > 1)
    assert all(
        line.startswith("- ") and "`pa`" not in line for line in verdicts
    )


def test_report_of_failed_runs_only():
    rows = rows_of(made_up(seeds=2))
    rows = [{**row, "metrics": None, "error": "x" * 999} for row in rows]
    text = reports.report(rows, ["plain", "pa"])
    assert "Failed runs, not in the means: 4." in text
    assert max(map(len, text.splitlines())) < 300


@pytest.mark.parametrize(
    "difference", [0, -1, "1", True, float("nan"), {"loss": 1}, {"accuracy": 0}]
)
def test_wrong_differences(difference):
    found = made_up()
    with pytest.raises(ValueError, match="Received: difference="):
        reports.report(rows_of(found), list(found), difference)


def test_figure_shows_each_difference():
    found = made_up()
    [axis] = plot_differences(found).axes
    expected = [
        found["pa"]["accuracy"][seed] - found["plain"]["accuracy"][seed]
        for seed in range(8)
    ]
    # After the line at zero.
    np.testing.assert_allclose(axis.lines[1].get_ydata(), expected)
    assert axis.get_title() == "accuracy"
    assert [t.get_text() for t in axis.get_xticklabels()] == ["pa\nn = 8"]


def test_figure_of_one_arm():
    with pytest.raises(ValueError, match=r"Received: completed runs of \['pl"):
        plot_differences({"plain": {"accuracy": {0: 0.5}}})
