import math
import re

import keras
import numpy as np
import pytest

from keras_parewire.studies import Study, compare
from keras_parewire.studies.report import Report, report
from keras_parewire.studies.statistics import columns, paired_differences
from keras_parewire.visualization import plot_comparisons

pytestmark = pytest.mark.any_backend


def make_rows(seeds=12, shift=0.02, noise=0.1, arms=("plain", "pa"), failed=()):
    """Rows of arms whose accuracies differ by about `shift`.

    `failed` lists the runs that did, as pairs of arm and seed.
    """
    generator = np.random.default_rng(0)
    plain = generator.normal(0.5, 0.01, seeds)
    identity = {"config": {"epochs": 3}, "environment": {"keras": "3"}}
    rows = []
    for place, arm in enumerate(arms):
        difference = generator.normal(shift, 0.1 * noise, seeds) if place else 0
        for seed, value in enumerate(plain + difference):
            fails = (arm, seed) in failed
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "metrics": None if fails else {"accuracy": float(value)},
                    "error": "OSError: no\nluck" if fails else None,
                    "identity": identity,
                }
            )
    return rows


def arms_of(rows):
    return list(dict.fromkeys(row["arm"] for row in rows))


def make_report(rows, **options):
    text = report(rows, arms_of(rows), **options)
    assert "nan" not in text
    assert "inf" not in text
    return text


def make_plot(rows, **options):
    values = columns(rows, arms_of(rows))
    found = [x for x in compare(values, **options) if x.n and x.verdict]
    samples = [paired_differences(values, x.arm, x.metric) for x in found]
    return plot_comparisons(found, samples, options.get("margin"))


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        (
            make_rows(),
            {},
            r"`pa` is higher than `plain` in accuracy, by \+0\.0",
        ),
        (make_rows(shift=-0.02), {}, "`pa` is lower than `plain` in accuracy"),
        (
            make_rows(shift=0),
            {"margin": 0.03},
            r"`pa` is equivalent to `plain` in accuracy: the difference is "
            r"within ± 0\.03 \(-0\.\d+ to \+0\.\d+, n = 12\)\.\n",
        ),
        (
            make_rows(shift=0),
            {},
            r"No difference seen between `pa` and `plain` in accuracy "
            r"\(-0\.\d+ to \+0\.\d+, n = 12\): one of 0\.\d+ is still "
            r"possible\. A verdict probably takes .* more seeds\.\n",
        ),
        (
            make_rows(shift=0, noise=0),
            {},
            "All 12 seeds gave `pa` and `plain` the same accuracy",
        ),
        (
            make_rows(6),
            {},
            r"Too few seeds to compare `pa` with `plain` in accuracy \(n = 6; "
            r"a verdict takes at least 7\)",
        ),
    ],
    ids=str,
)
def test_sentences(rows, options, expected):
    text = make_report(rows, **options)
    [line] = re.findall(r"(?m)^- .*`plain`.*\n", text)
    assert re.search(expected, line)


def test_no_difference_seen_says_what_is_left_open():
    rows = make_rows(shift=0)
    [item] = compare(columns(rows, arms_of(rows)))
    low, high = item.interval
    size = max(abs(low), abs(high))
    assert f"one of {size:.3f} is still possible" in make_report(rows)


@pytest.mark.parametrize(
    ("pilot", "pattern"),
    [
        (make_rows(12, shift=0.01), r"takes \d+ to \d+ more"),
        (make_rows(12, shift=0.003), r"takes at least \d+ more"),
    ],
    ids=["some", "many"],
)
def test_number_of_seeds_has_a_range(pilot, pattern):
    assert re.search(pattern, make_report(pilot))


def test_report_is_rendered_by_a_notebook():
    text = make_report(make_rows())
    assert isinstance(text, Report)
    assert text._repr_markdown_() == text
    assert type(text._repr_markdown_()) is str


def test_tables_line_up_and_hold_what_compare_returns():
    rows = make_rows(arms=("plain", "a|b", "pa"))
    for row in rows:
        row["metrics"]["loss"] = -row["metrics"]["accuracy"]
    text = make_report(rows)
    tables = re.findall(r"(?m)(?:^\|.*\n)+", text)
    assert len(tables) == 2
    for table in tables:
        assert len({len(line) for line in table.splitlines()}) == 1
    assert "| a\\|b  |" in tables[0]
    items = compare(columns(rows, arms_of(rows)))
    for table, (item, _) in zip(tables, (items[:2], items[2:]), strict=True):
        low, high = item.interval
        cells = f"{item.metric} a\\|b 12 {item.n} {item.difference:+.3f} "
        cells += f"{low:+.3f} to {high:+.3f} {item.effect:+.2g}"
        [line] = [line for line in table.splitlines() if "a\\|b" in line]
        found = re.sub(r" \| [\d.-]+ ± [\d.]+", "", line)
        assert re.sub(r" +(?!to)(\| )?", " ", found.strip("| ")).split() == (
            cells.split()
        )


def test_other_metrics_are_exploratory():
    rows = make_rows()
    for row in rows:
        row["metrics"]["loss"] = -row["metrics"]["accuracy"]
    text = make_report(rows)
    assert len(re.findall(r"(?m)^- .*`plain`", text)) == 1
    before, after = text.split("## Exploratory metrics")
    assert "| loss" not in before
    assert "| loss" in after
    text = make_report(rows, metric="loss")
    assert "`pa` is lower than `plain` in loss" in text
    assert "| accuracy" in text.split("## Exploratory metrics")[1]


def test_failures_are_an_outcome():
    text = make_report(make_rows(failed=[("pa", 3), ("pa", 4), ("plain", 3)]))
    failed = [line for line in text.splitlines() if "failed" in line]
    assert failed[0].startswith("- 1 of 12 runs of `plain` failed and are not")
    expected = "- 2 of 12 runs of `pa` failed and are not in the means, the "
    assert failed[1] == f"{expected}first (seed 3) with OSError: no luck"
    assert "n = 10)" in text
    assert "failed" not in make_report(make_rows())


def test_report_of_failed_runs_only():
    failed = [(arm, seed) for arm in ("plain", "pa") for seed in range(12)]
    rows = make_rows(failed=failed)
    for row in rows:
        row["error"] = "x" * 200
    text = make_report(rows, metric="accuracy")
    assert "- 12 of 12 runs of `plain` failed" in text
    assert "- 12 of 12 runs of `pa` failed" in text
    assert max(map(len, text.splitlines())) < 300


@pytest.mark.parametrize(
    "rows",
    [
        make_rows(1),
        make_rows(2),
        make_rows(arms=("plain",)),
        make_rows(1, failed=[("pa", 0)]),
        make_rows(1, failed=[("plain", 0)]),
    ],
    ids=["one", "two", "one arm", "no pa", "no plain"],
)
def test_reports_of_few_rows(rows):
    text = make_report(rows, margin=0.01)
    for arm in arms_of(rows):
        assert re.search(rf"\| {arm} +\|", text)


def test_differences_that_are_all_the_same_are_said_to_be():
    rows = make_rows(8)
    for row in rows:
        row["metrics"] = {"accuracy": 0.5 + 0.1 * (row["arm"] == "pa")}
    note = "All 8 seeds gave the same difference between `pa` and `plain`"
    assert note in make_report(rows)
    assert "0.10: probably nothing in the runs" in make_report(rows)


def test_many_seeds_take_no_longer_to_forecast():
    rows = make_rows(20_000, shift=0)
    assert "more seeds" in make_report(rows)


def test_figure_shows_intervals_and_each_difference():
    rows = make_rows(arms=("plain", "pa", "pb"))
    [axis] = make_plot(rows, margin=0.01).axes
    items = compare(columns(rows, arms_of(rows)))
    for place, item in enumerate(items):
        differences = [
            rows[12 * (place + 1) + seed]["metrics"]["accuracy"]
            - rows[seed]["metrics"]["accuracy"]
            for seed in range(12)
        ]
        dots, center = axis.lines[2 * place], axis.lines[2 * place + 1]
        np.testing.assert_allclose(dots.get_xdata(), differences)
        assert center.get_xdata() == [item.difference]
        [ends] = axis.containers[place][2][0].get_segments()
        np.testing.assert_allclose(ends[:, 0], item.interval)
    assert [t.get_text() for t in axis.get_yticklabels()] == ["pa", "pb"]
    assert axis.get_xlabel() == "accuracy, difference from plain"


def test_figure_is_of_the_metric_with_verdicts():
    rows = make_rows()
    for row in rows:
        row["metrics"]["other"] = 1.0
    [axis] = make_plot(rows).axes
    assert axis.get_xlabel() == "accuracy, difference from plain"
    assert len(axis.containers) == 1


def test_figure_of_few_seeds_has_no_intervals():
    [axis] = make_plot(make_rows(3)).axes
    [ends] = axis.containers[0][2][0].get_segments()
    assert ends[0, 0] == ends[1, 0]
    assert math.isfinite(ends[0, 0])


def test_figure_of_one_arm():
    with pytest.raises(ValueError, match="Received: 0 comparisons"):
        make_plot(make_rows(failed=[("pa", seed) for seed in range(12)]))
    with pytest.raises(ValueError, match="Received: 0 comparisons"):
        make_plot(make_rows(arms=("plain",)))


def make_study(path, **options):
    def make_model():
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])

    def train(model, seed):
        value = float(keras.ops.convert_to_numpy(model.weights[0]).sum())
        return {"loss": seed - value, "accuracy": seed + value}

    def shift(model, seed):
        model.weights[0].assign(model.weights[0] + 0.1 + 0.01 * (seed % 3))

    arms = {"plain": None, "shifted": shift}
    return Study(make_model, train, arms=arms, path=path, **options)


def test_a_study_compares_its_own_metric(tmp_path):
    study = make_study(tmp_path / "study", metric="accuracy")
    for function in (study.compare, study.report, study.plot):
        with pytest.raises(ValueError, match="There must be rows"):
            function()
    study.run(range(8), verbose=0)
    accuracy, loss = study.compare()
    assert accuracy[:4] == ("shifted", "plain", "accuracy", 8)
    assert (accuracy.verdict, loss.verdict) == ("higher", None)
    assert study.compare(margin=1.0)[0].verdict == "equivalent"
    assert "equivalent to `plain` in accuracy" in study.report(margin=1.0)
    [patch] = study.plot(margin=1.0).axes[0].patches
    assert [patch.get_x(), patch.get_width()] == [-1, 2]
    # Another metric is another question about the same rows.
    loss, _ = make_study(tmp_path / "study").compare()
    assert (loss.metric, loss.verdict) == ("loss", "lower")
    with pytest.raises(ValueError, match=r"\['loss', 'acc.*metric='auc'"):
        make_study(tmp_path / "study", metric="auc").report()


def test_a_metric_that_training_does_not_return(tmp_path):
    with pytest.raises(TypeError, match="Received: metric=3"):
        make_study(tmp_path, metric=3)
    with pytest.raises(ValueError, match="Received: metric='auc'"):
        make_study(tmp_path, metric="auc").run([0], verbose=0)
