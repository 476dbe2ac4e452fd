"""Runs a study on a cluster of a head and two nodes, parts of which get lost.

    python tests/studies/run_cluster.py FOLDER

The first driver is killed in the middle of a run. Another one goes on: one of
its workers is killed in the middle of a run, then a node is removed while a
worker of it is at work. At last a run kills every worker. All this happens in
runs that wait for it, so that nothing depends on how fast the machine is.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from keras_parewire import rewire_model

ARMS = {"plain": None, "pa": rewire_model}
SEEDS = range(6)
DATA = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")


def make_model():
    import keras

    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(4),
        ]
    )
    model.compile("adam", "mse")
    return model


def train(model, seed):
    history = model.fit(DATA, DATA[:, :4], batch_size=8, verbose=0).history
    return {"loss": history["loss"][-1]}


def make_train(folder):
    def train_in_danger(model, seed):
        import ray

        if seed == 3 and _first(folder / "killed", str(os.getpid())):
            os.kill(os.getpid(), signal.SIGKILL)
        node = ray.get_runtime_context().get_node_id()
        if seed == 4 and _first(folder / "on_node", node):
            wait()  # Until the node is removed.
        return train(model, seed)

    return train_in_danger


def make_train_and_wait(folder):
    def train_and_wait(model, seed):
        if seed == 2:
            _first(folder / "waiting", "")
        if seed >= 2:
            wait()  # Until the driver is killed.
        return train(model, seed)

    return train_and_wait


def make_train_and_die(folder):
    def train_and_die(model, seed):
        with (folder / "deaths").open("a") as file:
            file.write("one\n")
        os.kill(os.getpid(), signal.SIGKILL)

    return train_and_die


def wait():
    while True:
        time.sleep(0.1)


def _first(path, content):
    """Whether there is no such file yet; makes it whole."""
    if path.exists():
        return False
    draft = path.with_suffix(".draft")
    draft.write_text(content)
    draft.rename(path)
    return True


def remove_node(cluster, nodes, marker):
    while not marker.exists():
        time.sleep(0.1)
    lost = marker.read_text()
    [node] = [node for node in nodes if node.node_id == lost]
    cluster.remove_node(node, allow_graceful=False)


def run_first_driver(folder, address):
    import ray

    from keras_parewire.studies import Study

    ray.init(address, log_to_driver=False)

    train = make_train_and_wait(folder)
    study = Study(make_model, train, arms=ARMS, path=folder / "study")
    study.run(SEEDS, ray=True, verbose=0)


def kill_first_driver(folder, address):
    """Kills a driver while runs are left; returns the rows it has written."""
    command = [sys.executable, __file__, str(folder), address]
    driver = subprocess.Popen(command)
    while not (folder / "waiting").exists():
        assert driver.poll() is None
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    return {p: p.read_bytes() for p in folder.glob("study/runs/*.json")}


def main(folder):
    import ray
    from ray.cluster_utils import Cluster

    from keras_parewire.studies import Study

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False},
    )
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        finished = kill_first_driver(folder, cluster.address)
        # A task gets its next seed when all arms of the last are on disk.
        assert 2 <= len(finished) <= 4
        threading.Thread(
            target=remove_node,
            args=(cluster, nodes, folder / "on_node"),
            daemon=True,
        ).start()
        study = Study(
            make_model,
            make_train(folder),
            arms=ARMS,
            path=folder / "study",
            any_code=True,
        )
        ray.init(cluster.address, log_to_driver=False)
        study.run(SEEDS, ray=True, verbose=0)
        assert ray.is_initialized()  # It was before.
        assert all(path.read_bytes() == row for path, row in finished.items())
        # All there, so that nothing is run again.
        study.run(SEEDS, ray=True, verbose=0)
        study = Study(
            make_model,
            make_train_and_die(folder),
            arms=ARMS,
            path=study.path,
            any_code=True,
        )
        study.run([*SEEDS, 99], ray=True, verbose=0)
        assert [row["seed"] for row in study.rows() if row["error"]] == [99, 99]
        assert len((folder / "deaths").read_text().split()) == 3
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    if sys.argv[2:]:
        run_first_driver(Path(sys.argv[1]), sys.argv[2])
    else:
        main(Path(sys.argv[1]))
