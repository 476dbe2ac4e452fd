"""Measures what studies cost besides training.

    python examples/benchmark_studies.py rows
    python examples/benchmark_studies.py ray

`rows` writes rows without training and shows whether their number matters.
`ray` runs two workers on Ray and two processes that share a folder, in turns,
and compares their rows per second, measured once both workers are warm.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_parewire.studies import Study
from keras_parewire.studies.runner import Outcome, Runner

ARMS = {"plain": None, "pa": {"exponent": 1.0}}
X = np.random.default_rng(0).normal(size=(2048, 64)).astype("float32")


def make_model():
    """Returns a compiled model."""
    dense = [keras.layers.Dense(256, activation="relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((64,)), *dense])
    model.compile("adam", "mse")
    return model


def train(model, seed):
    """Trains for about a second; returns the loss."""
    targets = np.zeros((len(X), 256), "float32")
    history = model.fit(X, targets, epochs=10, verbose=0).history
    return {"loss": history["loss"][-1]}


def measure_rows(path, count):
    """Prints the time per row for every thousand rows."""
    study = Study(make_model, train, arms=ARMS, path=path)
    study._rows.begin(Runner(make_model, train, ARMS).environment)
    outcome = Outcome({"loss": 0.5}, None, 0.0)
    runs = list(itertools.product(range(count // 2), ARMS))
    for first in range(0, len(runs), 1000):
        part = runs[first : first + 1000]
        start = time.perf_counter()
        for seed, arm in part:
            study._record(arm, seed, outcome)
        each = (time.perf_counter() - start) / len(part)
        print(f"after {first + len(part)} rows: {1000 * each:.3f} ms per row")
    again = Study(make_model, train, arms=ARMS, path=path)
    for name, function in (
        ("find what is missing", lambda: again.run(range(count // 2))),
        ("read all rows", again.rows),
        ("report", again.report),
    ):
        start = time.perf_counter()
        function()
        print(f"{name}: {time.perf_counter() - start:.2f} s")


def rate(path):
    """Returns the rows per second once both workers are warm."""
    times = sorted(row.stat().st_mtime for row in path.glob("runs/*.json"))
    # The first run of a worker compiles.
    times = times[4:]
    return (len(times) - 1) / (times[-1] - times[0])


def run_processes(path, seeds):
    """Runs two independent processes."""
    count = ["--seeds", str(len(seeds))]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "shard", path, str(part), *count]
        )
        for part in range(2)
    ]
    if any(process.wait() for process in processes):
        raise RuntimeError("A process has failed.")


def run_ray(path, seeds):
    """Runs two workers on Ray."""
    study = Study(make_model, train, arms=ARMS, path=path)
    study.run(seeds, ray="local", resources={"num_cpus": 1}, verbose=0)


def main():
    """Runs the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["rows", "ray", "shard"])
    parser.add_argument("shard", nargs="*")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    if arguments.what == "shard":
        path, part = arguments.shard
        study = Study(make_model, train, arms=ARMS, path=path)
        return study.run(seeds, shard=(int(part), 2), verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "rows":
            return measure_rows(Path(folder) / "study", arguments.count)
        ratios = []
        for repeat in range(arguments.repeats):
            found = {}
            for function in (run_processes, run_ray):
                path = Path(folder) / f"{function.__name__}-{repeat}"
                function(path, seeds)
                found[function.__name__] = rate(path)
            ratios.append(found["run_ray"] / found["run_processes"])
            print(found, f"efficiency {ratios[-1]:.2f}", flush=True)
        print(f"median efficiency {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
