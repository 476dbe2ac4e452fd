"""Training functions that take several runs at once."""

import math

import keras
import numpy as np
import pytest
from helpers import as_array
from keras import layers

from keras_parewire import rewire_model
from keras_parewire.studies import Study

pytestmark = pytest.mark.any_backend
ARMS = {"plain": None, "pa": rewire_model}


def make_model():
    return keras.Sequential([keras.Input((3,)), layers.Dense(4)])


def score(weights, seed):
    return {"loss": seed + math.sin(sum(map(np.sum, weights)))}


def train(model, seed):
    return score([*map(as_array, model.weights)], seed)


def train_together(model, seeds, weights):
    calls.append(seeds)
    return [*map(score, weights, seeds)]


calls: list[list[int]] = []


def make_study(path, train=train_together, together=3):
    calls.clear()
    return Study(make_model, train, arms=ARMS, path=path, together=together)


def losses(study):
    return {(row["arm"], row["seed"]): row["loss"] for row in study.rows()}


def test_runs_are_those_of_one_at_a_time(tmp_path):
    alone = make_study(tmp_path / "alone", train, None)
    alone.run(range(4), verbose=0)
    study = make_study(tmp_path / "together")
    study.run([1], verbose=0)
    study.run(range(4), verbose=0)
    assert losses(study) == pytest.approx(losses(alone))
    # Arms of a seed, then as many as fit, of those that are missing.
    assert calls == [[1, 1], [0, 0, 2], [2, 3, 3]]


def test_all_get_the_same_random_numbers(tmp_path):
    def draw(model, seeds, weights):
        number = float(np.random.uniform())
        return [{"loss": number} for _ in seeds]

    study = make_study(tmp_path, draw)
    study.run(range(6), verbose=0)
    assert len(set(losses(study).values())) == 1


def test_failures(tmp_path):
    def fail(model, seeds, weights):
        if 3 in seeds:
            raise OSError("no luck")
        return [{"loss": math.nan if s == 1 else 0.5} for s in seeds]

    study = make_study(tmp_path, fail, 4)
    with pytest.warns(UserWarning, match="6 of 8 runs have failed"):
        study.run(range(4), verbose=0)
    errors = [row["error"] for row in study.rows()]
    assert (
        errors
        == [None] * 2
        + ["Not finite: loss is nan"] * 2
        + ["OSError: no luck"] * 4
    )


def test_check(tmp_path):
    assert "is repeatable" in make_study(tmp_path).check()
    assert calls == [[0], [1], [0]]


@pytest.mark.parametrize("result", [{"loss": 1.0}, [{"loss": 1.0}], None])
def test_a_list_with_a_dict_for_each_run(tmp_path, result):
    study = make_study(tmp_path, lambda model, seeds, weights: result)
    with pytest.raises(TypeError, match="each of the 2 runs"):
        study.run([0], verbose=0)
    assert study.rows() == []


@pytest.mark.parametrize("together", [0, -1, 1.5, "2"])
def test_wrong_numbers(tmp_path, together):
    message = f"Received: together={together!r}"
    with pytest.raises(ValueError, match=message):
        make_study(tmp_path, together=together)


def test_not_on_ray(tmp_path):
    study = make_study(tmp_path)
    with pytest.raises(ValueError, match="use `shard`"):
        study.run([0], ray=True)
