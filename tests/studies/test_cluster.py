import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import as_array
from test_study import ARMS, instant, make_small_model, results

from keras_parewire.studies import Study, cluster
from keras_parewire.studies.runner import Runner

# There are wheels for few systems and Python versions.
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray has no wheel for this system or Python version",
)
HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    # Everything stays on this machine.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "XLA_FLAGS": "",
}


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
            Study(make_small_model, instant, arms=ARMS, path=tmp_path / name)
        )
        for name in ("study", "single")
    )
    assert found == expected
    assert len(found) == 12


def run_on_fakes(monkeypatch, study, fates, **kwargs):
    """Runs on actors that die or raise as `fates` says, without Ray."""
    fake = FakeRay(fates)
    monkeypatch.setitem(sys.modules, "ray", fake)
    study.run(range(3), ray=True, verbose=0, **kwargs)
    return fake


class FakeRay:
    """As much of Ray as one node with two CPUs needs, in one process."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

        class OutOfMemoryError(RayError):
            pass

    def __init__(self, fates):
        self.fates, self.killed, self.made = fates, 0, 0
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

    def remote(self, kind):
        self.kind = kind
        return self

    def options(self, **options):
        self.given = options
        return Factory(self)

    def kill(self, actor):
        self.killed += 1

    def wait(self, futures):
        return futures[:1], futures[1:]

    def get(self, future):
        return future()


class Factory:
    def __init__(self, fake):
        self.fake = fake

    def remote(self, parts):
        self.fake.made += 1
        return Actor(self.fake, parts, self.fake.made)


class Actor:
    def __init__(self, fake, parts, number):
        self.fake, self.number, self.run = fake, number, self
        self.worker = fake.kind(parts)

    def remote(self, *args):
        def future():
            if self.fake.fates.get(args, 0):
                self.fake.fates[args] -= 1
                raise self.fake.exceptions.OutOfMemoryError("dead")
            environment, *others = self.worker.run(*args)
            if "kind" in self.fake.fates:
                environment = {"device": f"gpu {self.number}"}
            return environment, *others

        return future


@pytest.fixture
def study(tmp_path):
    return Study(make_small_model, instant, arms=ARMS, path=tmp_path / "study")


@pytest.fixture
def expected():
    runner = Runner(make_small_model, instant, ARMS)
    return {
        (arm, seed): runner.run(arm, seed).metrics["loss"]
        for seed in range(3)
        for arm in ARMS
    }


def losses(study):
    return {run: row["loss"] for run, row in results(study).items()}


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "fates",
    [
        {},
        {("plain", 0): 2},
        {("plain", 1): 2},
        {("pa", 0): 1, ("pa", 2): 2, ("plain", 0): 1},
    ],
    ids=str,
)
def test_a_dead_worker_is_replaced(monkeypatch, study, expected, fates):
    fake = run_on_fakes(monkeypatch, study, dict(fates))
    assert losses(study) == expected
    # One for each CPU, and one for each that died.
    assert fake.made <= 2 + sum(fates.values())
    assert fake.killed >= fake.made
    assert not fake.initialized


@pytest.mark.any_backend
def test_a_seed_that_always_kills_is_given_up(monkeypatch, study, expected):
    with pytest.raises(RuntimeError, match=r"Received: seeds=\[1\]"):
        run_on_fakes(monkeypatch, study, {("pa", 1): 3})
    del expected["pa", 1]
    assert losses(study) == expected


@pytest.mark.any_backend
def test_workers_that_die_at_once_are_an_error(monkeypatch, study):
    fates = {("plain", seed): 3 for seed in range(3)}
    with pytest.raises(RuntimeError, match=r"Received: 3 that died of seed="):
        run_on_fakes(monkeypatch, study, fates)
    assert not study.rows()
    assert not sys.modules["ray"].initialized


@pytest.mark.any_backend
def test_the_driver_gives_the_warnings_of_workers(monkeypatch, tmp_path):
    def train(model, seed):
        model.layers[0].trainable = False
        return instant(model, seed)

    study = Study(make_small_model, train, arms=ARMS, path=tmp_path / "study")
    with pytest.warns(UserWarning, match=r"must not change.*trainable"):
        run_on_fakes(monkeypatch, study, {})


@pytest.mark.any_backend
def test_workers_of_another_kind_are_refused(monkeypatch, study):
    with pytest.raises(ValueError, match=r"one kind.* Received.*gpu 1.*gpu 2"):
        run_on_fakes(monkeypatch, study, {"kind": True})


@pytest.mark.any_backend
def test_resources_that_no_node_has(monkeypatch, study):
    with pytest.raises(ValueError, match=r"Received: resources={'num_gp"):
        run_on_fakes(monkeypatch, study, {}, resources={"num_gpus": 1})
    fake = run_on_fakes(monkeypatch, study, {}, resources={"num_cpus": 2})
    assert fake.made == 1
    assert fake.given["num_cpus"] == 2
    assert fake.given["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.any_backend
def test_interrupted_driver_leaves_whole_rows(monkeypatch, study, expected):
    record, calls = study._record, []

    def interrupt(*args):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(record(*args))

    monkeypatch.setattr(study, "_record", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_on_fakes(monkeypatch, study, {})
    assert len(study.rows()) == 3
    assert not sys.modules["ray"].initialized
    monkeypatch.setattr(study, "_record", record)
    study.run(range(3), verbose=0)
    assert losses(study) == expected


@pytest.mark.any_backend
def test_ray_must_be_installed(monkeypatch, study):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"keras_parewire\[ray\].*Received"):
        study.run([0], ray=True, verbose=0)


@pytest.mark.any_backend
@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:x", "free"])
def test_unreachable_cluster(monkeypatch, study, address):
    monkeypatch.setitem(sys.modules, "ray", FakeRay({}))
    if address == "free":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ConnectionError, match=f"Received: ray='{address}'"):
        study.run([0], ray=address, verbose=0)
    assert not study.path.exists()


@pytest.fixture
def listening():
    """The address of a program that accepts connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.any_backend
def test_a_cluster_that_takes_no_driver(monkeypatch, study, listening):
    monkeypatch.setitem(sys.modules, "ray", FakeRay({}))
    monkeypatch.setattr(cluster, "WAIT", 0.01)
    with pytest.raises(ConnectionError, match=r"driver in 0\.01\. Received"):
        study.run([0], ray=listening, verbose=0)
    assert not study.path.exists()


@pytest.mark.any_backend
def test_what_a_driver_says_is_in_the_error(
    monkeypatch, study, listening, tmp_path
):
    (tmp_path / "ray.py").write_text("def init(address): raise OSError('no')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", FakeRay({}))
    with pytest.raises(ConnectionError, match=r"Received: (?s:.)*OSError: no"):
        study.run([0], ray=listening, verbose=0)


@pytest.mark.any_backend
def test_decided_arms_get_no_more_seeds(monkeypatch, tmp_path):
    def shift(model, seed):
        model.weights[0].assign(model.weights[0] + 1.0 + 0.01 * (seed % 3))

    def train(model, seed):
        return {"loss": float(np.sum(as_array(model.weights[0])))}

    arms = {"plain": None, "shifted": shift}
    study = Study(make_small_model, train, arms=arms, path=tmp_path / "study")
    fates = {("shifted", 3): 1}
    monkeypatch.setitem(sys.modules, "ray", fake := FakeRay(fates))
    study.run(range(50), ray=True, until_decided=True, verbose=0)
    [item] = study.compare()
    assert item.verdict == "higher"
    # Another seed may be on its way when the arm is decided.
    assert item.n in (7, 8)
    assert fake.made == 3
    study.run(range(50), until_decided=True, verbose=0)
    assert len(study.rows()) == 2 * item.n
