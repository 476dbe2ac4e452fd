import functools

import keras
import numpy as np
import pytest

from keras_parewire.studies import Study, compare

pytestmark = pytest.mark.any_backend

SEEDS = range(60)
SHIFTS = {"plain": 0.0, "far": 3.0, "near": 1.0, "same": 0.0}
MARGIN = 0.9


def make_numbers(shifts=SHIFTS):
    """A number for each arm and seed, as a training would return it."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(len(shifts), len(SEEDS)))
    return {
        arm: [float(x) for x in shift + noise[i]]
        for i, (arm, shift) in enumerate(shifts.items())
    }


@pytest.fixture
def make_study(tmp_path):
    """Makes studies that look up their numbers, and list their new runs."""

    def make(numbers, name="study", stop_after=None):
        arm_of_model, made = [], []

        def remember(model, seed, arm):
            arm_of_model[:] = [arm]

        def train(model, seed):
            if len(made) == stop_after:
                raise KeyboardInterrupt
            made.append((arm_of_model[0], seed))
            return {"loss": numbers[arm_of_model[0]][seed]}

        def make_model():
            return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

        arms = {arm: functools.partial(remember, arm=arm) for arm in numbers}
        study = Study(make_model, train, arms=arms, path=tmp_path / name)
        study.made = made
        return study

    return make


def run(study, seeds=SEEDS, **options):
    study.run(seeds, until_decided=True, margin=MARGIN, verbose=0, **options)


def expected_runs(numbers, seeds=SEEDS):
    """The runs of a study that is looked at after every seed, by hand."""
    values = {arm: {"loss": {}} for arm in numbers}
    reference, *left = numbers
    runs = []
    for seed in seeds:
        if not left:
            break
        for arm in (reference, *left):
            values[arm]["loss"][seed] = numbers[arm][seed]
            runs.append((arm, seed))
        verdicts = {x.arm: x.verdict for x in compare(values, margin=MARGIN)}
        left = [arm for arm in left if verdicts[arm] == "undecided"]
    return runs


def test_decided_arms_get_no_more_seeds(make_study):
    numbers = make_numbers()
    study = make_study(numbers)
    run(study)
    assert study.made == expected_runs(numbers)
    found = {item.arm: item for item in study.compare(margin=MARGIN)}
    verdicts = {arm: item.verdict for arm, item in found.items()}
    assert verdicts == {
        "far": "higher",
        "near": "higher",
        "same": "equivalent",
    }
    assert found["far"].n < found["near"].n < len(SEEDS)
    # The reference has no seed that only decided arms would have needed.
    assert max(item.n for item in found.values()) == sum(
        arm == "plain" for arm, _ in study.made
    )
    # All is decided, so that nothing is left to do.
    study.made.clear()
    run(study)
    assert study.made == []


def test_a_study_that_finds_nothing_uses_all_seeds(make_study):
    numbers = make_numbers({"plain": 0.0, "same": 0.2})
    study = make_study(numbers)
    study.run(SEEDS, until_decided=True, verbose=0)
    assert len(study.made) == 2 * len(SEEDS)


@pytest.mark.parametrize("stop_after", [1, 2, 3, 30, 50, 71])
def test_a_resumed_study_makes_the_same_runs(make_study, stop_after):
    numbers = make_numbers()
    study = make_study(numbers, stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        run(study)
    again = make_study(numbers)
    run(again)
    assert study.made + again.made == expected_runs(numbers)


def test_a_deleted_row_of_a_decided_arm_is_made_again(make_study):
    study = make_study(make_numbers())
    run(study)
    study.made.clear()
    (study.path / "runs" / "3-far.json").unlink()
    again = make_study(make_numbers())
    run(again)
    assert again.made == [("far", 3)]


def test_seeds_count_in_the_order_in_which_they_are_given(make_study):
    numbers = make_numbers()
    study = make_study(numbers)
    seeds = list(reversed(SEEDS))
    run(study, seeds)
    assert study.made == expected_runs(numbers, seeds)


def test_rows_of_other_seeds_count(make_study):
    numbers = make_numbers({"plain": 0.0, "far": 3.0})
    study = make_study(numbers)
    study.run(range(20), verbose=0)
    study.made.clear()
    run(study, range(20, 60))
    assert study.made == []


def test_processes_look_at_the_rows_of_all(make_study):
    numbers = make_numbers()
    last = {arm: seed for arm, seed in expected_runs(numbers)}
    # One after the other, the first sees only its own rows.
    parts = [make_study(numbers) for _ in range(3)]
    for part, study in enumerate(parts):
        run(study, range(part, 60, 3))
    made = [len(study.made) for study in parts]
    assert made[0] > made[1] >= made[2]
    assert last["far"] < len(SEEDS) / 3
    # The last one found an arm decided that it would not have decided itself.
    assert not [seed for arm, seed in parts[2].made if arm == "far"]


def test_failed_runs_decide_nothing(make_study):
    numbers = make_numbers({"plain": 0.0, "far": 3.0})
    numbers["far"] = [float("nan")] * len(SEEDS)
    study = make_study(numbers)
    with pytest.warns(UserWarning, match=r"12 of 24 runs have failed"):
        run(study, range(12))


def test_bar_ends_where_the_study_does(make_study, capsys):
    study = make_study(make_numbers({"plain": 0.0, "far": 3.0}))
    study.run(SEEDS, until_decided=True)
    assert capsys.readouterr().out.endswith("\n")


def test_wrong_margin(make_study):
    with pytest.raises(ValueError, match="Received: margin=-1"):
        make_study(make_numbers()).run([0], until_decided=True, margin=-1)


def test_one_arm_is_never_decided(make_study, capsys):
    study = make_study(make_numbers({"plain": 0.0}))
    study.run(range(20), until_decided=True)
    assert len(study.rows()) == 20
    assert "decided" not in capsys.readouterr().out
