"""Measures what the runs of a study cost besides training.

    KERAS_BACKEND=jax python examples/benchmark_studies.py

Compares the processor time of `Study.run`, with a training that returns at
once, with that of the loop that you would write yourself. Then measures runs
that train briefly, each with a new model or all with one model whose weights
are drawn anew: their processor time, and how far memory grows. On JAX, new
models are also measured with its compilation cache. Each is measured in a
process of its own; the first runs are left out. Adds what it finds to
`benchmark-studies.json` in the folder of `--out`.
"""

import argparse
import functools
import json
import os
import platform
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
from keras import layers
from process_memory import resident

from keras_parewire import reinitialize, rewire_model
from keras_parewire.studies import Study

ARMS = {"plain": None, "pa": rewire_model}
BACKEND = keras.backend.backend()
BLOCK = 10


def ten_layers():
    """Returns a model for the comparison with the loop."""
    hidden = [layers.Dense(64, activation="relu") for _ in range(10)]
    return keras.Sequential([keras.Input((64,)), *hidden])


def mlp():
    """Returns a compiled model of four layers."""
    hidden = [layers.Dense(64, activation="relu") for _ in range(3)]
    output = layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()])
    for layer in (*hidden, output):
        model.add(layer)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def convolutions():
    """Returns a compiled model of six convolutions with normalization."""
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for _ in range(6):
        model.add(layers.Conv2D(16, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


MODELS = {"mlp": mlp, "convolutions": convolutions}


def train(model, seed):
    """Trains for 16 steps; returns the loss."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(512, 8, 8, 1)).astype("float32")
    y = generator.integers(10, size=512)
    return {"loss": model.fit(x, y, verbose=0).history["loss"][0]}


def loop(seeds):
    """Makes the runs of a study as you would without one."""
    for seed in seeds:
        for arm in ARMS.values():
            keras.utils.set_random_seed(seed)
            model = ten_layers()
            if arm is not None:
                arm(model, seed=seed)
            keras.utils.set_random_seed(seed + 1)
            # Training would come here.


def measure_loop(folder, seeds):
    """Compares a study with a loop, in turns."""
    study = Study(
        ten_layers, lambda model, seed: {"loss": seed}, arms=ARMS, path=folder
    )
    run = functools.partial(study.run, verbose=0)
    ways = {"study": run, "loop": loop}
    seconds = dict.fromkeys(ways, 0.0)
    for first in range(0, seeds + BLOCK, BLOCK):
        for way, function in ways.items():
            start = time.process_time()
            function(range(first, first + BLOCK))
            if first:
                seconds[way] += time.process_time() - start
    runs = seeds * len(ARMS)
    found = {way: 1000 * x / runs for way, x in seconds.items()}
    return {
        **{f"{way}, processor ms a run": x for way, x in found.items()},
        "study / loop": found["study"] / found["loop"],
    }


def measure_runs(folder, seeds, model, way):
    """Measures the runs of one model, which is new for each or kept."""
    build = MODELS[model]
    kept = build() if way == "kept" else None

    def make_kept():
        reinitialize(kept)
        return kept

    study = Study(
        make_kept if way == "kept" else build, train, arms=ARMS, path=folder
    )
    study.run([0], verbose=0)
    memory, start = resident(), time.process_time()
    study.run(range(1, seeds + 1), verbose=0)
    seconds, runs = time.process_time() - start, seeds * len(ARMS)
    found = {"processor s a run": seconds / runs}
    if memory:
        found["MiB a run"] = (resident() - memory) / runs / 2**20
    return found


def measure_here(arguments):
    """Makes one measurement in this process, and prints it."""
    with tempfile.TemporaryDirectory() as folder:
        if arguments.part == ["loop"]:
            found = measure_loop(folder, BLOCK * arguments.blocks)
        else:
            found = measure_runs(folder, arguments.seeds, *arguments.part)
    print(json.dumps({name: float(f"{x:.3g}") for name, x in found.items()}))


def measure(part, cache=None):
    """Makes one measurement in a process of its own."""
    environment = dict(os.environ)
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, __file__, *sys.argv[1:], "--part", *part]
    output = subprocess.run(
        command, check=True, env=environment, stdout=subprocess.PIPE, text=True
    ).stdout
    found = json.loads(output.splitlines()[-1])
    print(*part, "with the cache" if cache else "", found, flush=True)
    return found


def main():
    """Runs the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=int, default=3, help="for runs that train (default: 3)"
    )
    parser.add_argument(
        "--blocks", type=int, default=4, help="of 10 seeds (default: 4)"
    )
    parser.add_argument("--out", type=Path, default=output_folder("studies"))
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        return measure_here(arguments)
    found = {"loop": measure(["loop"])}
    for model in MODELS:
        for way in ("new", "kept"):
            found[f"{model}, {way}"] = measure([model, way])
        if BACKEND == "jax":
            with tempfile.TemporaryDirectory() as cache:
                name = f"{model}, new, with the compilation cache"
                found[name] = measure([model, "new"], cache)
    result = {
        "command": f"KERAS_BACKEND={BACKEND} python examples/benchmark_studies"
        f".py --seeds {arguments.seeds} --blocks {arguments.blocks}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("keras", BACKEND)},
        **found,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "benchmark-studies.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, BACKEND: result}, indent=2) + "\n")
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()
