import random
import re
import sys
from pathlib import Path

import keras
import pytest
import verdicts

from keras_parewire.studies import Study

pytestmark = [pytest.mark.any_backend, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The quick form's tables: lists of lines, each a list of cells."""
    out = tmp_path_factory.mktemp("verdicts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["", "--quick", "--out", str(out)])
        verdicts.main()
    assert (out / "verdicts.png").exists()
    return read_tables(out / "verdicts.md")


def read_tables(path):
    parts = re.split(r"\*\*(.+)\*\*", path.read_text())[1:]
    return {
        title: [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in text.strip().splitlines()[2:]
        ]
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def shares(cells):
    return [float(cell.removesuffix(" %")) for cell in cells]


def test_equal_arms_are_rarely_told_apart(quick):
    lines = quick["Equal arms: studies that claim a difference"]
    assert len(lines) == 5 * 3 + 1
    for kind, looks, *cells in lines:
        # What 5 % of 40 studies may be by chance, where it is not far less.
        most = 15.0 if "planned" in looks else 5.0
        if not kind.startswith("exponential"):
            assert max(shares(cells)) <= most, (kind, looks)


def test_differences_are_found(quick):
    lines = quick["Seeds until an arm is decided"]
    found = {(effect, margin): cells for effect, margin, *cells in lines}
    for cells in (found["1 sd", ""], found["0 sd", "1 sd"]):
        assert all(cell.endswith("(100 %)") for cell in cells)
    one, three, eight = (int(x.split()[0]) for x in found["1 sd", ""])
    assert 10 < one < three < eight < 40


def test_planned_intervals_hold_the_difference(quick):
    lines = quick["Planned intervals that hold the true difference"]
    for kind, *cells in lines:
        assert min(shares(cells)) > 85, kind


def test_studies_stop(quick):
    lines = quick["Studies that stop when they know"]
    for effects, margin, runs, decided in lines:
        if effects == "1 sd" or margin:
            assert shares([runs])[0] < 80
            assert decided.startswith("100 %")


@pytest.mark.parametrize("margin", [None, 0.5])
def test_studies_stop_as_those_of_the_package(tmp_path, margin):
    generator = random.Random(0)
    numbers = {
        arm: {seed: generator.gauss(mean, 1) for seed in range(14)}
        for arm, mean in {"a": 0.0, "b": 4.0, "c": 0.1}.items()
    }
    running = {}

    def make_model():
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def train(model, seed):
        return {"x": numbers[running["arm"]][seed]}

    arms = {
        arm: lambda model, seed, arm=arm: running.update(arm=arm)
        for arm in numbers
    }
    study = Study(make_model, train, arms=arms, path=tmp_path)
    study.run(range(14), until_decided=True, margin=margin, verbose=0)
    found, made = verdicts.run_until_decided(numbers, margin)
    assert found == study.compare(margin=margin)
    assert made == len(study.rows()) < 3 * 14


def test_the_committed_tables_are_of_this_script(quick):
    committed = read_tables(EXAMPLES / "results" / "verdicts.md")
    assert committed.keys() == quick.keys()
    for title, lines in quick.items():
        if title != "The same with the committed rows":
            found = [line[:1] for line in committed[title]]
            assert found == [line[:1] for line in lines]
    # These need no simulation, and so are the same in the quick form.
    for line in quick["The same with the committed rows"]:
        assert line in committed["The same with the committed rows"]
