import functools
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
from helpers import as_array, child_environment
from keras import layers
from small_study import (
    ARMS,
    X,
    Y,
    instant,
    make_model,
    make_small_model,
    results,
    train_model,
)

from keras_parewire import reinitialize, rewire_model
from keras_parewire.studies import Study
from keras_parewire.studies.rows import Rows, write
from keras_parewire.studies.runs import Outcome

DELETED = object()


@pytest.fixture
def make_study(tmp_path):
    def make(train=instant, folder="study", arms=ARMS, model=None, **kw):
        # Only what is trained needs to be compiled.
        default = make_small_model if train is not train_model else make_model
        path = tmp_path / folder
        return Study(model or default, train, arms=arms, path=path, **kw)

    return make


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The results of a study that one process has run in order."""
    path = tmp_path_factory.mktemp("studies") / "study"
    study = Study(make_model, train_model, arms=ARMS, path=path)
    study.run(range(3), verbose=0)
    return results(study)


# Runs.


@pytest.mark.slow
def test_runs_depend_on_their_arm_and_seed_only(trained, make_study):
    assert len({row["loss"] for row in trained.values()}) == 6
    for folder, order in (("one", [2, 0, 1]), ("other", [1])):
        study = make_study(train_model, folder)
        study.run(order, verbose=0)
        found = results(study)
        assert found == {run: trained[run] for run in found}
        assert len(found) == 2 * len(order)


@pytest.mark.slow
def test_arms_added_later_are_paired_too(trained, make_study):
    study = make_study(train_model, arms={"pa": ARMS["pa"]})
    study.run([0], verbose=0)
    study = make_study(train_model)
    study.run([0], verbose=0)
    assert results(study) == {run: trained[run] for run in results(study)}
    assert list(results(study)) == [("plain", 0), ("pa", 0)]


@pytest.mark.parametrize("own", ["recall", None])
def test_metrics_that_keras_names_keep_their_names(make_study, own):
    def model():
        model = keras.Sequential([keras.Input((8,)), layers.Dense(1)])
        metrics = [keras.metrics.Recall(name=own), keras.metrics.Precision()]
        model.compile("sgd", "mse", metrics=metrics)
        return model

    def train(model, seed):
        targets = Y[:, None].astype("float32")
        history = model.fit(X, targets, validation_split=0.5, verbose=0)
        return {name: values[-1] for name, values in history.history.items()}

    arms = {"a": None, "b": None}
    make_study(train, model=model, arms=arms).run([0], verbose=0)
    study = make_study(train, model=model, arms=arms)
    study.run([0, 1], verbose=0)
    for row in study.rows():
        assert row["error"] is None
        assert None not in [row["loss"], row["val_loss"]]
        assert len([name for name in row if "recall" in name]) == 2
        assert len([name for name in row if "precision" in name]) == 2


# Rows.


@pytest.mark.any_backend
def test_many_threads_write_whole_rows(make_study):
    study = make_study()
    study.run([0], verbose=0)
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda seed: study.add("plain", seed, {"loss": seed}),
                [*range(20)] * 4,
            )
        )
    seeds = [row["seed"] for row in make_study(arms={"plain": None}).rows()]
    assert seeds == list(range(20))


@pytest.mark.any_backend
def test_a_study_goes_on_where_it_stopped(make_study):
    calls = []

    def stop(model, seed):
        calls.append(seed)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return instant(model, seed)

    study = make_study(stop)
    with pytest.raises(KeyboardInterrupt):
        study.run(range(3), verbose=0)
    assert len(study.rows()) == 3
    study.run(range(3), verbose=0)
    assert calls == [0, 0, 1, 1, 1, 2, 2]
    whole = make_study(folder="whole")
    whole.run(range(3), verbose=0)
    assert results(study) == results(whole)
    runs = study.path / "runs"
    names = [f"{seed}-{arm}.json" for seed in range(3) for arm in ARMS]
    assert sorted(os.listdir(runs)) == sorted(names)


WAITING = """
import sys, time
from keras_parewire.studies import Study
from small_study import *

def train(model, seed):
    if seed == 1:
        open(sys.argv[2], "w").close()
        while True:
            time.sleep(0.1)
    return instant(model, seed)

study = Study(make_small_model, train, arms=ARMS, path=sys.argv[1])
study.run(range(3))
"""


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_killed_process_leaves_whole_rows(make_study, tmp_path):
    marker = tmp_path / "marker"
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, tmp_path / "study", marker],
        cwd=os.path.dirname(__file__),
        env=child_environment(*sys.path),
        stdout=subprocess.DEVNULL,
    )
    while not marker.exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    study, whole = make_study(), make_study(folder="whole")
    assert list(results(study)) == [("plain", 0), ("pa", 0)]
    for each in (study, whole):
        each.run(range(3), verbose=0)
    assert results(study) == results(whole)
    assert len(results(study)) == 6


@pytest.mark.any_backend
def test_a_draft_is_not_a_row(make_study):
    study = make_study()
    study.run([0], verbose=0)
    (study.path / "runs" / ".draft").write_text('{"arm": "pl')
    assert len(make_study().rows()) == 2


@pytest.mark.any_backend
@pytest.mark.parametrize("failure", ["raise", "nan", "inf"])
def test_failed_runs_are_kept_and_shown(make_study, failure):
    def fail(model, seed):
        if seed == 1:
            if failure == "raise":
                raise ZeroDivisionError("no\nluck")
            return {"loss": float(failure)}
        return {"loss": seed + 0.1 * math.cos(len(results(study)))}

    study = make_study(fail)
    with pytest.warns(UserWarning, match=r"2 of 8 runs have failed, .*'plain'"):
        study.run(range(4), verbose=0)
    failed = [row for row in study.rows() if row["error"]]
    assert [(row["arm"], row["seed"]) for row in failed] == [
        ("plain", 1),
        ("pa", 1),
    ]
    assert all(row["loss"] is None for row in failed)
    text = study.report()
    expected = (
        "ZeroDivisionError: no luck"
        if failure == "raise"
        else f"Not finite: loss is {failure}"
    )
    assert "1 of 4 runs of `plain` failed and are not in" in text
    assert f"the first (seed 1) with {expected}" in text
    # They are not made again, which is said again.
    with pytest.warns(UserWarning, match=r"2 of 8 runs have failed, .*'plain'"):
        study.run(range(4), verbose=0)
    assert len(study.rows()) == 8


@pytest.mark.slow
def test_an_exception_within_fit_changes_no_other_run(trained, make_study):
    def stop(epoch, logs):
        raise ArithmeticError("stopped")

    def train(model, seed):
        if seed == 1:
            callback = keras.callbacks.LambdaCallback(on_epoch_end=stop)
            model.fit(X, Y, batch_size=16, callbacks=[callback], verbose=0)
        return train_model(model, seed)

    study = make_study(train, model=make_model)
    with pytest.warns(UserWarning, match="ArithmeticError: stopped"):
        study.run([0, 1, 2], verbose=0)
    found = results(study)
    for run, expected in trained.items():
        lost = {"loss": None, "accuracy": None}
        assert found[run] == (lost if run[1] == 1 else expected)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "names", [["a/b", "a\\b"], ["é:*?", "con"], ["../up", "."], ["1-2.json"]]
)
def test_any_name_of_an_arm_is_a_file_name(make_study, names):
    study = make_study(arms=dict.fromkeys(names))
    study.run([3], verbose=0)
    assert [row["arm"] for row in make_study(arms=study.arms).rows()] == names
    files = os.listdir(study.path / "runs")
    assert len(files) == len(names)
    assert not any(set(name) & set('/\\:*?"<>|') for name in files)


@pytest.mark.any_backend
def test_rows_say_what_they_depend_on(make_study):
    rate, augment = np.float32(0.5), np.bool_(True)
    study = make_study(config={"epochs": 2, "rate": rate, "augment": augment})
    study.run([0], verbose=0)
    row = json.loads((study.path / "runs" / "0-pa.json").read_text())
    identity = row["identity"]
    module = "keras_parewire.models.model_rewiring"
    assert identity["arm"] == f"function {module}.rewire_model"
    config = {"epochs": 2, "rate": 0.5, "augment": True}
    assert identity["config"] == config
    assert identity["environment"]["keras"] == keras.__version__
    assert identity["environment"]["device"].startswith("cpu")


@pytest.mark.any_backend
def test_a_function_gets_each_new_row(make_study):
    def fail(model, seed):
        return {"loss": math.nan} if seed == 2 else instant(model, seed)

    got = []
    make_study(fail).run([0], verbose=0)
    with pytest.warns(UserWarning, match="have failed"):
        make_study(fail).run(range(3), on_run=got.append, verbose=0)
    assert got == make_study(fail).rows()[2:]
    assert [row["loss"] is None for row in got] == [False, False, True, True]


@pytest.mark.any_backend
def test_a_row_is_written_before_its_function_is_called(make_study):
    def stop(row):
        raise ArithmeticError(row["arm"])

    with pytest.raises(ArithmeticError, match="plain"):
        make_study().run([0], on_run=stop, verbose=0)
    assert [row["arm"] for row in make_study().rows()] == ["plain"]


@pytest.mark.any_backend
def test_progress_is_shown(make_study, capsys):
    make_study().run([0, 1])
    assert "4/4" in capsys.readouterr().out


# Errors.


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"config": {"epochs": 3}}, "config.epochs is 2, not 3"),
        ({"config": None}, "config.epochs is 2, not None"),
        (
            {"arms": {"plain": rewire_model}},
            "in 0-plain.json arm is None, not 'function "
            "keras_parewire.models.model_rewiring.rewire_model'",
        ),
    ],
    ids=str,
)
def test_another_study_does_not_mix(make_study, changes, differing):
    config = {"epochs": 2}
    make_study(config=config).run([0], verbose=0)
    with pytest.raises(ValueError, match=r"another study.* Received") as error:
        make_study(**{"config": config, **changes})
    assert differing in str(error.value)


def scale(model, seed, factor):
    model.layers[0].kernel.assign(factor * as_array(model.layers[0].kernel))


@pytest.mark.any_backend
def test_arms_with_arguments_are_told_apart(make_study):
    def arms(factor):
        return {"scaled": functools.partial(scale, factor=factor)}

    study = make_study(arms=arms(2.0))
    study.run([0], verbose=0)
    assert len(make_study(arms=arms(2.0)).rows()) == 1
    with pytest.raises(ValueError, match=r"factor is 2\.0, not 3\.0"):
        make_study(arms=arms(3.0))


@pytest.mark.any_backend
def test_another_environment_does_not_mix(make_study):
    study = make_study()
    study.run([0], verbose=0)
    for arm in ("plain", "pa"):
        path = study.path / "runs" / f"0-{arm}.json"
        row = json.loads(path.read_text())
        row["identity"]["environment"]["keras"] = "2.0"
        path.write_text(json.dumps(row))
        if arm == "plain":  # One row of another one does not either.
            with pytest.raises(ValueError, match=r"in 0-pa\.json env"):
                make_study()
    assert len(make_study().rows()) == 2
    with pytest.raises(ValueError, match=r"in rows environment\.keras is '2"):
        make_study().run([1], verbose=0)
    assert len(make_study().rows()) == 2


@pytest.mark.any_backend
def test_a_file_is_no_folder(make_study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file"):
        make_study(folder="file")
    (tmp_path / "empty").mkdir()
    make_study(folder="empty").run([0], verbose=0)


@pytest.mark.any_backend
def test_other_files_beside_the_rows_are_none(make_study):
    study = make_study()
    study.run([0], verbose=0)
    (study.path / "runs" / "notes.json").write_text("{}")
    assert len(make_study().rows()) == 2


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"seed": 1}, "the row is of 'pa', seed 1"),
        ({"arm": "plain"}, "the row is of 'plain', seed 0"),
        ({"metrics": DELETED}, "its keys are ['arm', 'seed', 'error'"),
        ({"identity": {}}, "environment is None, not {'"),
        ({"identity": DELETED}, "its keys are ["),
        (None, "Expecting value"),
        ([1], "'list' object"),
    ],
    ids=str,
)
def test_damaged_rows_are_named(make_study, changes, problem):
    make_study().run([0], verbose=0)
    path = make_study().path / "runs" / "0-pa.json"
    if isinstance(changes, dict):
        row = json.loads(path.read_text()) | changes
        row = {k: v for k, v in row.items() if v is not DELETED}
        path.write_text(json.dumps(row))
    else:
        path.write_text("" if changes is None else json.dumps(changes))
    for read in (lambda study: study.run([0]), Study.rows, Study.report):
        with pytest.raises(ValueError, match=r"0-pa\.json") as error:
            read(make_study())
        assert problem in str(error.value)
    path.unlink()
    make_study().run([0], verbose=0)
    assert len(make_study().rows()) == 2


@pytest.mark.any_backend
def test_a_copied_row_is_no_other_run(make_study):
    study = make_study()
    study.run([0], verbose=0)
    runs = study.path / "runs"
    shutil.copy(runs / "0-pa.json", runs / "07-pa.json")
    assert len(make_study().rows()) == 2
    shutil.copy(runs / "0-pa.json", runs / "1-pa.json")
    with pytest.raises(ValueError, match=r"1-pa\.json, where .*'pa', seed 0"):
        make_study().rows()


def race(*functions):
    """Calls functions at the same moment; returns the errors of those."""
    barrier, errors = threading.Barrier(len(functions)), []

    def call(function):
        barrier.wait()
        try:
            function()
        except ValueError as error:
            errors.append(str(error))

    with ThreadPoolExecutor(len(functions)) as pool:
        list(pool.map(call, functions))
    return errors


def write_rows(path, arm, seed=0, **config):
    rows = Rows(path, {"a": arm}, {"config": config})
    found = {"model": "none", "environment": {"backend": "none"}}
    metrics = {"loss": float(arm == "one")}
    rows.add("a", seed, Outcome(metrics, None, identity=found))


@pytest.mark.any_backend
@pytest.mark.parametrize("differing", ["config", "arm", "arm, other seeds"])
def test_of_two_studies_that_begin_at_once_rows_do_not_mix(tmp_path, differing):
    for number in range(100):
        path = tmp_path / str(number)
        calls = [
            functools.partial(
                write_rows,
                path,
                one if "arm" in differing else "same",
                i if "seeds" in differing else 0,
                **({"name": one} if differing == "config" else {}),
            )
            for i, one in enumerate(["one", "other"])
        ]
        # The second one sees the row of the first, unless both write at once:
        # then neither study reads the rows of both.
        errors = race(*calls)
        for call in calls:
            errors += race(call)
        assert errors
        assert all("must not hold another study" in x for x in errors)
        assert {x.name for x in (path / "runs").iterdir()} <= {
            "0-a.json",
            "1-a.json",
        }


@pytest.mark.any_backend
def test_a_study_ends_when_another_one_writes_to_its_folder(make_study):
    def train(model, seed):
        made.append(seed)
        if len(made) == 3:
            path = study.path / "runs" / "99-plain.json"
            text = (other.path / "runs" / "0-plain.json").read_text()
            path.write_text(text.replace('"seed": 0', '"seed": 99'))
        return instant(model, seed)

    made = []
    other = make_study(folder="other", config={"epochs": 3})
    other.run([0], verbose=0)
    study = make_study(train)
    with pytest.raises(ValueError, match=r"99-plain\.json config\.epochs is 3"):
        study.run(range(9), verbose=0)
    assert made == [0, 0, 1, 1]


@pytest.mark.any_backend
def test_of_two_rows_of_one_run_the_first_counts(tmp_path):
    for number in range(50):
        path = tmp_path / str(number)
        assert not race(*[functools.partial(write_rows, path, "one")] * 2)
        assert os.listdir(path / "runs") == ["0-a.json"]


@pytest.mark.any_backend
def test_files_without_links_are_not_replaced_either(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    for number, replace in enumerate([False, False, True]):
        write(tmp_path / "row.json", {"a": number}, replace)
        found = json.loads((tmp_path / "row.json").read_text())
        assert found == {"a": 2 if replace else 0}
    assert os.listdir(tmp_path) == ["row.json"]


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "arms",
    [
        None,
        {},
        {"": None},
        {3: None},
        {"x" * 200: None},
        {"/" * 60: None},
        {"a": None, "A": None},
        {"a": 1},
        {"a": "pa"},
        {"a": functools.partial(rewire_model, exponents=1.0)},
        {"a": functools.partial(rewire_model, layers=object())},
        {"a": lambda model: None},
        {"a": lambda model, number: None},
    ],
    ids=str,
)
def test_wrong_arms(make_study, arms):
    with pytest.raises((TypeError, ValueError), match="Received: "):
        make_study(arms=arms)


@pytest.mark.any_backend
def test_an_arm_that_raised_an_error_may_be_changed(make_study):
    def arms(layers):
        arm = functools.partial(rewire_model, layers=layers)
        return {"plain": None, "pa": arm}

    with pytest.raises(ValueError, match="layers"):
        make_study(arms=arms("none of these")).run([0], verbose=0)
    study = make_study(arms=arms(".*dense.*"))
    study.run([0], verbose=0)
    assert {row["arm"] for row in study.rows()} == {"plain", "pa"}
    with pytest.raises(ValueError, match=r"keywords\.layers is '\.\*dense"):
        make_study(arms=arms("kernel"))


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "changes",
    [
        {"model": 1},
        {"model": lambda name: None},
        {"model": keras.Sequential([keras.Input((3,)), layers.Dense(4)])},
        {"train": None},
        {"train": lambda model: {}},
        {"config": 3},
        {"config": {"a": object()}},
        {"config": {"a": {1, "a"}}},
        {"config": {("a", 1): 1}},
    ],
    ids=str,
)
def test_wrong_arguments(make_study, changes):
    with pytest.raises(TypeError, match="Received: "):
        make_study(**changes)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "arguments",
    [
        {"seeds": [-1]},
        {"seeds": [1, 2, 1]},
        {"seeds": 3},
        {"seeds": [0.5]},
        {"seeds": [True]},
        {"seeds": ["0"]},
        {"seeds": [2**32]},
        {"seeds": [0], "on_run": "print"},
        {"seeds": [0], "ray": 1},
        {"seeds": [0], "ray": "auto"},
    ],
    ids=str,
)
def test_wrong_arguments_of_run(make_study, arguments):
    study = make_study()
    with pytest.raises((TypeError, ValueError), match="Received: "):
        study.run(**arguments)
    assert study.rows() == []


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "model",
    [
        lambda: keras.Sequential([layers.Dense(2)]),
        lambda: None,
        lambda: layers.Dense(2),
    ],
    ids=["not built", "none", "layer"],
)
def test_wrong_models(make_study, model):
    study = make_study(model=model)
    with pytest.raises((TypeError, ValueError), match="Received: "):
        study.run([0], verbose=0)
    assert study.rows() == []


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        0.5,
        {"loss": "0.5"},
        {"loss": np.complex64(1)},
        {"loss": None},
        {"loss": True},
        {1: 0.5},
    ],
    ids=str,
)
def test_wrong_results(make_study, result):
    def train(model, seed):
        return {"loss": 0.5} if seed == 0 else result

    study = make_study(train)
    with pytest.raises(TypeError, match="Received: "):
        study.run([1], verbose=0)
    assert study.rows() == []
    # Once training has worked, they are failures.
    with pytest.warns(UserWarning, match="2 of 4 runs have failed.*TypeError"):
        study.run([0, 1], verbose=0)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "result",
    [{"other": 0.5}, {"seed": 0.5}, {"backend": 0.5}, {"loss": 1, "b": 0.5}],
    ids=str,
)
def test_other_names_of_metrics(make_study, result):
    def train(model, seed):
        return {"loss": 0.5} if seed == 0 else result

    for _ in range(2):  # Nor after a restart; nothing is lost.
        study = make_study(train)
        with pytest.raises(ValueError, match="Received: "):
            study.run([0, 1], verbose=0)
    assert len(study.rows()) == 2


@pytest.mark.any_backend
def test_a_history_is_no_result(make_study):
    def train(model, seed):
        return {"loss": [0.5, 0.4]}

    with pytest.raises(TypeError, match=r"values\[-1\] for name, values in"):
        make_study(train).run([0], verbose=0)


# Failures.


@pytest.mark.any_backend
def test_if_nothing_works_yet_the_exception_ends_the_call(make_study):
    def fail(model, seed):
        if model.count_params() and works < 1:
            undefined_name  # noqa: B018, F821
        return instant(model, seed)

    works = 0
    study = make_study(fail)
    with pytest.raises(NameError, match="undefined_name") as error:
        study.run(range(9), verbose=0)
    assert error.traceback[-1].name == "fail"
    assert study.rows() == []
    works = 1
    study.run([0], verbose=0)
    works = 0
    with pytest.warns(UserWarning, match="2 of 4 runs have failed.*NameError"):
        study.run([0, 1], verbose=0)
    works = 1
    study.run([0, 1], retry_failed=True, verbose=0)
    assert [row["error"] for row in study.rows()] == [None] * 4
    whole = make_study(folder="whole")
    whole.run([0, 1], verbose=0)
    assert results(study) == results(whole)


@pytest.mark.any_backend
def test_a_failure_waits_for_a_run_that_works(make_study):
    """So that its row has the names of the metrics."""
    got = []

    def fail(model, seed):
        if not got and len(calls) == 0:
            calls.append(seed)
            raise ArithmeticError("x" * 999)
        return instant(model, seed)

    calls = []
    with pytest.warns(UserWarning, match="1 of 2 runs have failed"):
        make_study(fail).run([0], on_run=got.append, verbose=0)
    assert [row["arm"] for row in got] == ["pa", "plain"]
    assert [row.keys() for row in got] == [got[0].keys()] * 2
    assert len(got[1]["error"]) == 300
    assert got[1]["loss"] is None


@pytest.mark.any_backend
def test_an_arm_that_cannot_be_applied_ends_the_call(make_study):
    def broken(model, seed):
        if len(broken_calls) != 1:
            broken_calls.append(seed)
            raise ArithmeticError("no luck")
        broken_calls.append(seed)

    broken_calls = []
    study = make_study(arms={"plain": None, "broken": broken})
    with pytest.raises(ArithmeticError, match="no luck"):
        study.run([0], verbose=0)
    assert [row["arm"] for row in study.rows()] == ["plain"]
    # It has worked once; now it may fail.
    with pytest.warns(UserWarning, match="1 of 4 runs have failed"):
        study.run([0, 1], verbose=0)


# Rows of others.


def test_runs_that_were_made_elsewhere(make_study):
    whole, study = make_study(folder="whole"), make_study()
    whole.run([0, 1], verbose=0)
    for row in whole.rows():
        study.add(row["arm"], row["seed"], {"loss": row["loss"]})
    assert results(study) == results(whole)
    study.add("pa", 2, {"loss": math.nan})
    assert "Not finite: loss is nan" in study.report()
    study.add("pa", 0, {"loss": 9.0})  # It has a row.
    assert results(make_study())["pa", 0] == results(whole)["pa", 0]
    for arguments in (
        ("other", 0, {"loss": 0.5}),
        ("pa", -1, {"loss": 0.5}),
        ("pa", 3, {"loss": "low"}),
        ("pa", 3, {"accuracy": 0.5}),
    ):
        with pytest.raises((ValueError, TypeError), match="Received: "):
            study.add(*arguments)
    assert len(study.rows()) == 5


def small_model_of_other_layers():
    return keras.Sequential([keras.Input((3,)), layers.Dense(5)])


@pytest.mark.parametrize("change", ["model", "train", "arm", "comment"])
def test_rows_of_other_code_are_refused(make_study, change):
    def train(model, seed):
        return {"loss": 0.5}

    def arm(model, seed):
        pass

    arms = {"plain": None, "arm": arm}
    study = make_study(train, arms=arms)
    study.run([0], verbose=0)

    if change == "train":

        def train(model, seed):
            return {"loss": 0.25}

    if change == "arm":

        def arm(model, seed):
            model.summary()

    if change == "comment":

        def train(model, seed):
            """Trains."""
            return {
                "loss": 0.5,  # The loss.
            }

    arms = {"plain": None, "arm": arm}
    model = small_model_of_other_layers if change == "model" else None
    if change == "comment":
        assert len(make_study(train, arms=arms, model=model).rows()) == 2
        return
    name = "make_model" if change == "model" else change
    expected = f"any_code=True.* the code of {name} has changed"
    with pytest.raises(ValueError, match=expected):
        make_study(train, arms=arms, model=model)
    study = make_study(train, arms=arms, model=model, any_code=True)
    assert len(study.rows()) == 2
    if change == "model":  # That is no change of the code alone.
        with pytest.raises(ValueError, match=r"model is '16 parameters in 2"):
            study.run([1], verbose=0)
    else:
        study.run([1], verbose=0)
        assert len(study.rows()) == 4


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("train", "def train(model, seed):\n    return {'loss': 1.0}\n"),
        (
            "Train",
            "class Train:\n    def __call__(self, model, seed):\n"
            "        return {'loss': 1.0}\n\n\ntrain = Train()\n",
        ),
    ],
    ids=["function", "class"],
)
def test_files_that_have_changed_are_no_source(
    make_study, tmp_path, monkeypatch, name, code
):
    def write(loss):
        # The same size in the same second looks unchanged to Python.
        (tmp_path / "mine.py").write_text(code.replace("1.0", str(loss)))
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    write(1.0)
    mine = importlib.import_module("mine")
    make_study(mine.train).run([0], verbose=0)
    write(9.0)
    # They are taken for the same as any.
    with pytest.warns(UserWarning, match=f"no longer .* Received: {name}"):
        assert len(make_study(mine.train).rows()) == 2
    importlib.reload(mine)
    with pytest.raises(ValueError, match="the code of train has changed"):
        make_study(mine.train)


@pytest.mark.any_backend
def test_functions_without_source_are_named_once(make_study):
    scope = {}
    exec("def train(model, seed): return {'loss': 0.5}", scope)
    with pytest.warns(UserWarning, match=r"in `config`\. Received: train"):
        make_study(scope["train"]).run([0], verbose=0)
    assert len(make_study(lambda model, seed: {"loss": 0.5}).rows()) == 2


@pytest.mark.any_backend
@pytest.mark.filterwarnings("ignore:The source of a function cannot be read")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.float32, np.float64),
        (
            keras.applications.vgg16.preprocess_input,
            keras.applications.resnet_v2.preprocess_input,
        ),
    ],
)
def test_functions_of_others_are_told_apart_by_name(make_study, one, other):
    make_study(config={"by": one}).run([0], verbose=0)
    assert len(make_study(config={"by": one}).rows()) == 2
    with pytest.raises(ValueError, match=r"config\.by"):
        make_study(config={"by": other})


@pytest.mark.any_backend
def test_code_of_objects_with_a_config_counts(make_study):
    class Ones(keras.initializers.Initializer):
        def __call__(self, shape, dtype=None):
            return keras.ops.ones(shape, dtype)

    class Twos(keras.initializers.Initializer):
        def __call__(self, shape, dtype=None):
            return 2 * keras.ops.ones(shape, dtype)

    make_study(config={"by": Ones()}).run([0], verbose=0)
    assert len(make_study(config={"by": Ones()}).rows()) == 2
    with pytest.raises(ValueError, match=r"code of config\.by\.class has"):
        make_study(config={"by": Twos()})


@pytest.mark.any_backend
def test_code_of_lambdas_methods_objects_and_partials(make_study):
    class Trainer:
        factor = 1.0

        def __call__(self, model, seed):
            return {"loss": self.factor}

        def method(self, model, seed):
            return {"loss": 2 * self.factor}

    def train(model, seed, loss):
        return {"loss": loss}

    functions = [
        Trainer(),
        Trainer().method,
        lambda model, seed: {"loss": 0.1},
        lambda model, seed: {"loss": 0.2},
        functools.partial(train, loss=0.3),
    ]
    for number, function in enumerate(functions):
        make_study(function, str(number)).run([0], verbose=0)
        for other in functions:
            if other is function:
                make_study(other, str(number))
            else:
                with pytest.raises(ValueError, match="train"):
                    make_study(other, str(number))


def constant(model, seed, loss):
    return {"loss": loss}


def another(model, seed, loss):
    return {"loss": -loss}


@pytest.mark.any_backend
def test_names_that_keras_numbers_are_no_configuration(make_study):
    def made():
        config = {
            "optimizer": keras.optimizers.Adam(0.5),
            "layer": layers.Dense(3),
        }
        return make_study(config=config)

    made().run([0], verbose=0)
    assert len(made().rows()) == 2
    with pytest.raises(ValueError, match=r"learning_rate is 0\.5"):
        make_study(config={"optimizer": keras.optimizers.Adam(0.25)})


@pytest.mark.any_backend
def test_an_arm_must_change_its_own_model(make_study):
    def wider(model, seed):
        return keras.Sequential([keras.Input((3,)), layers.Dense(9)])

    study = make_study(arms={"plain": None, "wider": wider})
    with pytest.raises(TypeError, match=r"must change the .*Received: an"):
        study.run([0], verbose=0)
    arms = {"plain": None, "same": lambda model, seed: model}
    make_study(arms=arms, folder="same").run([0], verbose=0)


@pytest.mark.any_backend
def test_the_first_row_says_which_metric_comes_first(make_study):
    def train(model, seed):
        return {"accuracy": 0.5, "loss": float(seed)}

    study = make_study(train)
    study.run([1, 2], verbose=0)
    for arm in ARMS:
        study.add(arm, 0, {"loss": 0.0, "accuracy": 0.5})
    assert study.compare()[0].metric == "accuracy"


@pytest.mark.any_backend
def test_starts_are_compared_between_calls(make_study):
    def model():
        kernel = keras.initializers.HeNormal(seed=1)
        dense = layers.Dense(4, kernel_initializer=kernel)
        return keras.Sequential([keras.Input((3,)), dense])

    study = make_study(model=model)
    study.run([0], verbose=0)
    with pytest.warns(UserWarning, match="start alike for all seeds"):
        study.run([1], verbose=0)


@pytest.mark.any_backend
def test_metrics_in_any_order_are_repeatable(make_study):
    made = []

    def train(model, seed):
        made.append(seed)
        metrics = {"loss": 1.0, "accuracy": 0.5}
        return dict(list(metrics.items())[:: (-1) ** len(made)])

    check = make_study(train).check()
    assert check.repeatable
    assert check.metrics["loss"] == check.metrics["accuracy"] == (0.0, 0.0)


@pytest.mark.any_backend
def test_training_that_returns_nan_may_be_repeatable(make_study):
    def train(model, seed):
        return {"loss": 1.0, "auc": math.nan}

    assert make_study(train).check().repeatable


@pytest.mark.any_backend
def test_functions_that_partials_are_given_count(make_study):
    def arms(function, **kwargs):
        arm = functools.partial(lambda f, model, seed: None, function)
        return make_study(arms={"arm": arm}, **kwargs)

    arms(constant).run([0], verbose=0)
    with pytest.raises(ValueError, match=r"code of arm\.arguments\.0 has"):
        arms(another)
    assert len(arms(another, any_code=True).rows()) == 1


@pytest.mark.any_backend
def test_the_code_within_a_partial_counts(make_study):
    make_study(functools.partial(constant, loss=1.0)).run([0], verbose=0)
    assert len(make_study(functools.partial(constant, loss=1.0)).rows()) == 2
    with pytest.raises(ValueError, match=r"keywords\.loss is 1\.0, not 2\.0"):
        make_study(functools.partial(constant, loss=2.0))
    with pytest.raises(
        ValueError, match=r"the code of train\.call has changed"
    ):
        make_study(functools.partial(another, loss=1.0))


@pytest.mark.any_backend
def test_what_is_infinite_is_described(make_study):
    arms = {"greedy": functools.partial(rewire_model, exponent=math.inf)}
    config = {"clip": -math.inf, "fill": math.nan}
    make_study(arms=arms, config=config).run([0], verbose=0)
    assert len(make_study(arms=arms, config=config).rows()) == 1
    with pytest.raises(ValueError, match=r"config\.clip is '-Infinity', not 0"):
        make_study(arms=arms, config={**config, "clip": 0})


@pytest.mark.any_backend
def test_paths_arrays_and_layers_are_described(make_study, tmp_path):
    def arm(model, seed, teacher, values):
        pass

    def arms(values):
        options = {"teacher": make_small_model(), "values": values}
        return {"arm": functools.partial(arm, **options)}

    names = [np.array(["cat", name], object) for name in ("a dog", "a fox")]
    config = {"data": tmp_path, "code": None, "names": names[0].copy()}
    study = make_study(arms=arms(np.zeros(10**5)), config=config)
    study.run([0], verbose=0)
    row = study.path / "runs" / "0-arm.json"
    assert len(row.read_text()) < 3000
    with pytest.raises(ValueError, match=r"keywords\.values is 'float64 array"):
        make_study(arms=arms(np.ones(10**5)), config=config)
    same = arms(np.zeros(10**5))
    make_study(arms=same, config={**config, "names": names[0]})
    with pytest.raises(ValueError, match=r"names\.1 is 'a dog', not 'a fox'"):
        make_study(arms=same, config={**config, "names": names[1]})


@pytest.mark.any_backend
def test_failures_stay_until_their_runs_are_made_again(make_study):
    def fail(model, seed):
        if seed == 1 and works < 1:
            raise ArithmeticError("no luck")
        if seed == 1 and works == 1:
            raise KeyboardInterrupt
        return instant(model, seed)

    works = 0
    study = make_study(fail)
    with pytest.warns(UserWarning, match="2 of 4 runs have failed"):
        study.run([0, 1], verbose=0)
    works = 1
    with pytest.raises(KeyboardInterrupt):
        study.run([0, 1], retry_failed=True, verbose=0)
    assert len(study.rows()) == 4
    study.add("pa", 1, {"loss": 0.5})
    assert [row["loss"] for row in study.rows()][2:] == [None, 0.5]
    works = 2
    study.run([0, 1], retry_failed=True, verbose=0)
    assert [row["error"] for row in make_study(fail).rows()] == [None] * 4


@pytest.mark.any_backend
def test_failures_that_others_have_made_again_are_none(make_study):
    def fail(model, seed):
        if seed == 1 and not works:
            raise ArithmeticError("no luck")
        return instant(model, seed)

    works = False
    study = make_study(fail)
    with pytest.warns(UserWarning, match="2 of 4 runs have failed"):
        study.run([0, 1], verbose=0)
    works = True
    with mock.patch.object(Path, "unlink", autospec=True) as unlink:
        make_study(fail).run([0, 1], retry_failed=True, verbose=0)
    # No row was gone for a moment, in which others may read it.
    assert all(call.args[0].name[0] == "." for call in unlink.mock_calls)
    works = False
    assert [row["error"] for row in study.rows()] == [None] * 4
    study.run([0, 1], retry_failed=True, verbose=0)
    assert [row["error"] for row in make_study(fail).rows()] == [None] * 4


@pytest.mark.any_backend
def test_rows_stay_where_the_study_began(tmp_path, monkeypatch):
    def train(model, seed):
        os.chdir(tmp_path)
        return instant(model, seed)

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    study = Study(make_small_model, train, arms=ARMS, path="study")
    study.run([0, 1], verbose=0)
    assert len(os.listdir(tmp_path / "here" / "study" / "runs")) == 4


# Words.


@pytest.mark.any_backend
def test_a_call_says_what_is_there_and_why_it_stops(make_study, capsys):
    def train(model, seed):
        shifted = float(as_array(model.weights[0]).sum()) > 50
        return {"loss": float(shifted) + 0.01 * (seed % 3 + shifted * seed % 2)}

    def shift(model, seed):
        model.weights[0].assign(model.weights[0] + 10)

    study = make_study(train, arms={"plain": None, "shift": shift})
    study.run(range(3))
    assert "there" not in capsys.readouterr().out
    study.run(range(40), until_decided=True)
    printed = capsys.readouterr().out
    assert "6 rows there, 74 to make" in printed
    seeds = len(study.rows()) // 2
    assert 6 < seeds < 20
    assert f"Stopped after {seeds} of 40 seeds: every arm is decided" in printed


@pytest.mark.parametrize("seeded", [True, False])
def test_seeds_that_start_alike_are_named(make_study, recwarn, seeded):
    def model():
        init = keras.initializers.HeNormal(seed=3 if seeded else None)
        return keras.Sequential(
            [
                keras.Input((3,)),
                layers.Dense(4, kernel_initializer=init, name="same"),
                layers.Dense(4),
            ]
        )

    study = make_study(model=model)
    study.run(range(4), verbose=0)
    texts = [str(w.message) for w in recwarn if w.category is UserWarning]
    assert len(texts) == seeded
    if seeded:
        assert "1 of 2 weights alike for the seeds 0 and 1:" in texts[0]
        assert "same/kernel" in texts[0]


@pytest.mark.parametrize("again", [True, False])
def test_arms_that_do_not_start_alike_are_named(make_study, recwarn, again):
    kept = make_small_model()

    def model():
        if again:
            reinitialize(kept)
        return kept

    def shift(model, seed):
        model.weights[0].assign(model.weights[0] + 1)

    study = make_study(
        model=model, arms={"plain": None, "shift": shift, "c": None}
    )
    study.run(range(4), verbose=0)
    texts = [str(w.message) for w in recwarn if w.category is UserWarning]
    assert bool(texts) != again
    if not again:
        expected = "Received: seed 0, in which 1 of 1 weights differ: "
        assert "do not start from the same weights" in texts[0]
        assert expected in texts[0] and texts[0].endswith("dense/kernel")
