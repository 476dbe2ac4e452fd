import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import as_array, child_environment
from small_study import ARMS, instant, make_small_model, results

from keras_parewire.studies import Study, runs

# There are wheels for few systems and Python versions.
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray has no wheel for this system or Python version",
)
HERE = Path(__file__).parent
ENVIRONMENT = child_environment(
    *sys.path,
    # Everything stays on this machine.
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    XLA_FLAGS="",
)


@needs_ray
@pytest.mark.slow
@pytest.mark.backend("jax")
def test_lost_drivers_workers_and_nodes_change_no_row(tmp_path):
    process = subprocess.run(
        [sys.executable, HERE / "run_cluster.py", tmp_path],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "killed").exists()
    assert (tmp_path / "on_node").exists()
    code = (
        "import sys, run_cluster as r; from keras_parewire.studies import *;"
        "Study(r.make_model, r.train, arms=r.ARMS, path=sys.argv[1])"
        ".run(r.SEEDS)"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "single"],
        cwd=HERE,
        env=ENVIRONMENT,
        check=True,
    )
    found, expected = (
        results(
            Study(
                make_small_model,
                instant,
                arms=ARMS,
                path=tmp_path / name,
                any_code=True,
            )
        )
        for name in ("study", "single")
    )
    killed = {run: found.pop(run) for run in list(found) if run[1] == 99}
    assert {row["loss"] for row in killed.values()} == {None}
    assert found == expected
    assert len(found) == 12


def run_on_fakes(monkeypatch, study, fates=(), **kwargs):
    """Runs on tasks of which those of the seeds `fates` die, without Ray."""
    fake = FakeRay(fates)
    monkeypatch.setitem(sys.modules, "ray", fake)
    study.run(range(3), **{"ray": True, "verbose": 0, **kwargs})
    return fake


class FakeRay:
    """As much of Ray as one node with two CPUs needs, in one process."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

        class WorkerCrashedError(RayError):
            pass

    def __init__(self, fates=()):
        self.fates, self.most, self.waiting = fates, 0, []
        self.initialized = False

    def is_initialized(self):
        return self.initialized

    def init(self, address=None, **kwargs):
        self.initialized = True

    def shutdown(self):
        self.initialized = False

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def put(self, value):
        return value

    def remote(self, function, *args):
        if not args:  # As a decorator.
            self.function = function
            return self
        future = functools.partial(self.function, function, *args)
        self.waiting.append(future)
        self.most = max(self.most, len(self.waiting))
        return future

    def options(self, **options):
        self.given = options
        return self

    def cancel(self, future, force):
        self.waiting.remove(future)

    def wait(self, futures):
        return futures[:1], futures[1:]

    def get(self, future):
        self.waiting.remove(future)
        if future.args[1] in self.fates:
            raise self.exceptions.WorkerCrashedError("dead")
        return future()


@pytest.fixture
def study(tmp_path):
    return Study(make_small_model, instant, arms=ARMS, path=tmp_path / "study")


@pytest.fixture
def expected():
    parts = make_small_model, instant, ARMS
    return {
        (arm, seed): outcome.metrics["loss"]
        for seed in range(3)
        for arm, outcome in runs.make_runs(parts, seed, ARMS)
    }


def losses(study):
    return {run: row["loss"] for run, row in results(study).items()}


@pytest.mark.any_backend
def test_a_seed_with_its_arms_is_a_task(monkeypatch, study, expected):
    fake = run_on_fakes(monkeypatch, study)
    assert losses(study) == expected
    assert fake.most == 2  # One for each CPU.
    assert fake.given["max_retries"] == 2
    assert not fake.initialized


@pytest.mark.any_backend
def test_a_seed_that_always_kills_is_kept_as_failed(monkeypatch, study):
    with pytest.warns(UserWarning, match="2 of 6 runs have failed"):
        run_on_fakes(monkeypatch, study, fates=[1])
    errors = [row["error"] for row in study.rows()]
    died = "RuntimeError: 3 workers died of it: dead"
    assert errors == [None, None, died, died, None, None]


@pytest.mark.any_backend
def test_workers_that_die_at_once_are_an_error(monkeypatch, study):
    with pytest.raises(RuntimeError, match="3 workers died of it: dead"):
        run_on_fakes(monkeypatch, study, fates=range(3))
    assert not study.rows()
    assert not sys.modules["ray"].initialized


@pytest.mark.any_backend
def test_the_traceback_of_a_worker_is_in_the_error(monkeypatch, tmp_path):
    def train(model, seed):
        raise ZeroDivisionError("no luck")

    study = Study(make_small_model, train, arms=ARMS, path=tmp_path / "study")
    expected = r"(?s)On a worker:.*, in train.*ZeroDivisionError: no luck"
    with pytest.raises(RuntimeError, match=expected):
        run_on_fakes(monkeypatch, study)
    assert study.rows() == []


@pytest.mark.any_backend
def test_workers_of_another_kind_are_refused(monkeypatch, study):
    study.run([0], verbose=0)
    found = runs.identify(make_small_model())
    other = {**found, "environment": {**found["environment"], "device": "gpu"}}
    monkeypatch.setattr(runs, "identify", lambda model: other)
    with pytest.raises(ValueError, match=r"device is 'cpu.*', not 'gpu'"):
        run_on_fakes(monkeypatch, study)


@pytest.mark.any_backend
def test_resources_that_no_node_has(monkeypatch, study):
    with pytest.raises(ValueError, match=r"Received: ray={'num_gp"):
        run_on_fakes(monkeypatch, study, ray={"num_gpus": 1})
    fake = run_on_fakes(monkeypatch, study, ray={"num_cpus": 2})
    assert fake.most == 1
    assert fake.given["num_cpus"] == 2
    assert fake.given["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] == ""
    fake = run_on_fakes(monkeypatch, study, ray={"memory": 1e6})
    assert fake.given["memory"] == 1e6
    with pytest.raises(ValueError, match=r"Received: ray=.*{'a100': 1}"):
        run_on_fakes(monkeypatch, study, ray={"resources": {"a100": 1}})


@pytest.mark.any_backend
def test_interrupted_driver_leaves_whole_rows(monkeypatch, study, expected):
    calls = []

    def interrupt(row):
        calls.append(row)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on_fakes(monkeypatch, study, on_run=interrupt)
    assert len(study.rows()) == 3
    assert not sys.modules["ray"].initialized
    assert not sys.modules["ray"].waiting
    study.run(range(3), verbose=0)
    assert losses(study) == expected


@pytest.mark.any_backend
def test_ray_must_be_installed(monkeypatch, study):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"keras_parewire\[ray\].*Received"):
        study.run([0], ray=True, verbose=0)


@pytest.mark.any_backend
def test_decided_arms_get_no_more_seeds(monkeypatch, tmp_path):
    def shift(model, seed):
        model.weights[0].assign(model.weights[0] + 1.0 + 0.01 * (seed % 3))

    def train(model, seed):
        return {"loss": float(np.sum(as_array(model.weights[0])))}

    arms = {"plain": None, "shifted": shift}
    study = Study(make_small_model, train, arms=arms, path=tmp_path / "study")
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    study.run(range(50), ray=True, until_decided=True, verbose=0)
    [item] = study.compare()
    assert item.verdict == "higher"
    # Another seed may be on its way when the arm is decided.
    assert item.n in (7, 8)
    study.run(range(50), until_decided=True, verbose=0)
    assert len(study.rows()) == 2 * item.n


@pytest.mark.any_backend
def test_starts_are_compared_in_any_order(monkeypatch, tmp_path):
    class Reordered(FakeRay):
        def wait(self, futures):
            return futures[-1:], futures[:-1]

    def make_model():
        kernel = keras.initializers.HeNormal(seed=1)
        dense = keras.layers.Dense(4, kernel_initializer=kernel)
        return keras.Sequential([keras.Input((3,)), dense])

    study = Study(make_model, instant, arms=ARMS, path=tmp_path / "study")
    monkeypatch.setitem(sys.modules, "ray", Reordered())
    with pytest.warns(UserWarning, match="start alike for all seeds"):
        study.run(range(4), ray=True, verbose=0)
