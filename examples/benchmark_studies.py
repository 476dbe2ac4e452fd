"""Measures what studies cost besides training.

    python examples/benchmark_studies.py rows
    KERAS_BACKEND=jax python examples/benchmark_studies.py ray

`rows` makes 10,000 runs that train nothing, and shows whether their number
matters. `ray` makes runs of about a second with two workers on Ray, and with
two processes that share a folder, in turns, and compares their rows per second
once all are warm. Both add what they find to `benchmark-studies.json` in the
folder of `--out`. The ratios in it are of one call each.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from command_line import output_folder

from keras_parewire import rewire_model
from keras_parewire.studies import Study

ARMS = {"plain": None, "pa": rewire_model}
X = np.random.default_rng(0).normal(size=(2048, 64)).astype("float32")
# The first run of each worker compiles, and the last ones of a worker may have
# the machine for themselves.
MARGIN = 4


class TimedStudy(Study):
    """A study that notes the times of its rows."""

    def _record(self, *row):
        start = time.perf_counter()
        written = super()._record(*row)
        end = time.perf_counter()
        self.__dict__.setdefault("written", []).append(
            {"at": end, "took": end - start, "processor": time.process_time()}
        )
        return written


def make_small_model():
    """Returns a model that is quickly drawn."""
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])


def train_nothing(model, seed):
    """Returns a number at once."""
    return {"loss": float(seed)}


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


def measure_rows(folder, options):
    """Measures runs without training, part by part."""
    arguments = make_small_model, train_nothing
    study = TimedStudy(*arguments, arms=ARMS, path=folder)
    study.run(range(options.rows // len(ARMS)))
    # The first row also waits for the model to be built.
    start, *written = study.written
    start, parts = start["at"], []
    size = options.rows // 10
    for first in range(0, len(written), size):
        part = written[first : first + size]
        parts.append(
            {
                "rows": first + 1 + len(part),
                "ms per row": 1000 * (part[-1]["at"] - start) / len(part),
                "ms to write a row": 1000
                * statistics.median(row["took"] for row in part),
            }
        )
        start = part[-1]["at"]
        print(parts[-1], flush=True)
    again = Study(*arguments, arms=ARMS, path=folder)
    seconds = {}
    for name, function in (
        ("find that nothing is missing", lambda: again.run(range(5))),
        ("read all rows", again.rows),
        ("report", again.report),
    ):
        start = time.perf_counter()
        function()
        seconds[name] = time.perf_counter() - start
    return {
        "parts": parts,
        **{
            f"last / first part, {name}": parts[-1][name] / parts[0][name]
            for name in ("ms per row", "ms to write a row")
        },
        "seconds": seconds,
    }


def rate(path):
    """Returns the rows per second once both workers are warm."""
    times = sorted(row.stat().st_mtime for row in path.glob("runs/*.json"))
    times = times[MARGIN:-MARGIN]
    return (len(times) - 1) / (times[-1] - times[0])


def run_processes(path, seeds):
    """Runs two independent processes; returns their rows per second."""
    count = ["--seeds", str(len(seeds))]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "shard", path, str(part), *count]
        )
        for part in range(2)
    ]
    if any(process.wait() for process in processes):
        raise RuntimeError("A process has failed.")
    return {"processes, rows per s": rate(path)}


def run_ray(path, seeds):
    """Runs two workers on Ray; returns their rows per second."""
    study = TimedStudy(make_model, train, arms=ARMS, path=path)
    study.run(seeds, ray="local", resources={"num_cpus": 1}, verbose=0)
    first, last = study.written[MARGIN], study.written[-MARGIN - 1]
    rows = len(study.written) - 2 * MARGIN - 1
    spent = last["processor"] - first["processor"]
    return {
        "Ray, rows per s": rate(path),
        "Ray, driver's processor ms per row": 1000 * spent / rows,
        "Ray, ms to write a row": 1000
        * statistics.median(row["took"] for row in study.written),
    }


def measure_ray(folder, options):
    """Compares Ray with independent processes, in turns."""
    repeats = []
    for repeat in range(options.repeats):
        found = {}
        for function in (run_processes, run_ray):
            path = folder / f"{function.__name__}-{repeat}"
            found |= function(path, range(options.seeds))
        found["Ray / processes"] = (
            found["Ray, rows per s"] / found["processes, rows per s"]
        )
        print(found, flush=True)
        repeats.append(found)
    medians = {
        name: statistics.median(found[name] for found in repeats)
        for name in repeats[0]
    }
    return {"repeats": repeats, "medians": medians}


def main():
    """Runs the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["rows", "ray", "shard"])
    parser.add_argument("shard", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=output_folder("studies"))
    options = parser.parse_args()
    if options.what == "shard":
        path, part = options.shard
        study = Study(make_model, train, arms=ARMS, path=path)
        shard = int(part), 2
        return study.run(range(options.seeds), shard=shard, verbose=0)
    measure = {"rows": measure_rows, "ray": measure_ray}[options.what]
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options)
    backend = keras.backend.backend()
    packages = ["keras_parewire", "keras", backend]
    packages += ["ray"] if options.what == "ray" else []
    result = {
        "command": " ".join(
            ["python", "examples/benchmark_studies.py", *sys.argv[1:]]
        ),
        "backend": backend,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in packages},
        **found,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "benchmark-studies.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[options.what] = result
    path.write_text(json.dumps(known, indent=2) + "\n")
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()
