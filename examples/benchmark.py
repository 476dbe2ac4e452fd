"""Times PA rewiring against the published rule and against a sort.

    KERAS_BACKEND=jax python examples/benchmark.py

Prints tables of ratios measured in one run, and writes them with the raw
seconds to `benchmark-<backend>.json`, with a plot beside it. The baseline is
the published sequential rule in NumPy with `Generator.choice`. A full run takes
three to five minutes on two cores; `--quick`, with fewer and smaller kernels,
takes less than one.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The baseline is the tests' reference implementation, written from the paper.
sys.path.append(str(Path(__file__).parents[1] / "tests"))

import keras
import matplotlib.pyplot as plt
import numpy as np
from command_line import output_folder
from keras import ops
from process_memory import Peak
from reference import published

from keras_parewire import StrengthStabilized, rewire, rewire_model
from keras_parewire.rewiring import host_engine
from keras_parewire.studies.identity import find_device

BACKEND = keras.backend.backend()


def seconds(function, repeats=1):
    """Returns the time of the fastest, least disturbed of several calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        wait_for(function())
        times.append(time.perf_counter() - start)
    return min(times)


def wait_for(tensor):
    """Waits until an asynchronous backend has computed a tensor."""
    if ops.is_tensor(tensor):
        ops.convert_to_numpy(tensor[:1])


def random_matrix(*shape):
    """Returns a float32 array of normal numbers, scaled like initial weights.

    The scale matters: the more strengths differ, the more often
    `Generator.choice` has to draw again.
    """
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    return values / np.float32(np.sqrt(shape[0]))


def resnet50_shapes():
    """Returns the shapes of ResNet-50's 54 kernels, 25.5 million weights."""
    shapes, channels = [(7, 7, 3, 64)], 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        shapes.append((1, 1, channels, 4 * width))
        for _ in range(blocks):
            shapes += [
                (1, 1, channels, width),
                (3, 3, width, width),
                (1, 1, width, 4 * width),
            ]
            channels = 4 * width
    return [*shapes, (2048, 1000)]


def resnet50(quick):
    """Times all kernels of a ResNet-50, with first calls and conversions."""
    shapes = resnet50_shapes()[: 24 if quick else None]
    kernels = []

    def sample():
        for seed, shape in enumerate(shapes):
            kernels.append(keras.initializers.Orthogonal(seed=seed)(shape))
            wait_for(kernels[-1])

    def rewire_all():
        for seed, kernel in enumerate(kernels):
            wait_for(rewire(kernel, seed=seed))

    def baseline():
        generator = np.random.default_rng(0)
        for kernel in kernels:
            matrix = ops.convert_to_numpy(kernel)
            published(matrix.reshape(-1, kernel.shape[-1]), generator)

    times = {
        "sample orthogonal": seconds(sample),
        "rewire": seconds(rewire_all),
        "baseline": seconds(baseline),
    }
    return {
        **times,
        "kernels": len(shapes),
        "baseline / rewire": times["baseline"] / times["rewire"],
        "rewire / sample": times["rewire"] / times["sample orthogonal"],
    }


def sort_bound(quick):
    """Compares rewiring with four calls of `np.sort`, two for each pass."""
    squares = [(n, n) for n in (64, 128, 256, 512, 1024, 2048, 4096)]
    shapes = [(512, 4608), (4608, 512), *squares[: 5 if quick else None]]
    rows = []
    for shape in shapes:
        matrix = random_matrix(*shape)
        repeats = 5 if matrix.size > 10**6 else 20
        times = {
            "rewire": seconds(lambda m=matrix: rewire(m, seed=0), repeats),
            "sort": seconds(
                lambda m=matrix: [np.sort(m) for _ in range(4)], repeats
            ),
            "baseline": seconds(
                lambda m=matrix: published(m, np.random.default_rng(0))
            ),
        }
        rows.append(
            {
                "shape": shape,
                **times,
                "rewire / sort": times["rewire"] / times["sort"],
                "baseline / rewire": times["baseline"] / times["rewire"],
            }
        )
    return rows


def in_new_process(shape):
    """Runs `measure_memory` in a process that has used little memory so far."""
    arguments = [sys.executable, __file__, "--measure", *shape]
    process = subprocess.run(
        list(map(str, arguments)), stdout=subprocess.PIPE, check=True
    )
    return json.loads(process.stdout.splitlines()[-1])


def measure_memory(shape):
    """Prints the seconds and the peak memory beyond what was in use before.

    The memory is printed as null on systems other than Linux.
    """
    kernel = ops.convert_to_tensor(random_matrix(*shape))
    rewire(random_matrix(64, 64), seed=0)
    peak = Peak()
    elapsed = seconds(lambda: rewire(kernel, seed=0))
    above = peak.above()
    kernels = above and float(above / (4 * np.prod(shape)))
    print(json.dumps({"seconds": elapsed, "kernels": kernels}))


def memory(quick):
    """Measures time and peak memory (on Linux) of the largest kernels."""
    shapes = [(4096, 4096), *([] if quick else [(8192, 28672)])]
    rows = []
    for shape in shapes:
        measured = in_new_process(shape)
        per_weight = measured["seconds"] / np.prod(shape) * 1e9
        rows.append(
            {
                "shape": shape,
                "seconds": measured["seconds"],
                "ns a weight": per_weight,
                "extra memory in kernels": measured["kernels"],
            }
        )
    return rows


def compiled(function):
    """Compiles a function with the backend's compiler; PyTorch runs eagerly."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def both_paths(shape):
    """Times the host path and the traced path on a tensor on the device."""
    tensor = keras.initializers.Orthogonal(seed=0)(shape)

    def on_host():
        return rewire(tensor, seed=0)

    rewire_traced = compiled(lambda matrix: rewire(matrix, seed=0))
    first = seconds(lambda: rewire_traced(tensor))
    warm = seconds(lambda: rewire_traced(tensor), 3)
    return {
        "shape": shape,
        "host": seconds(on_host, 3),
        "traced": warm,
        "compile": first - warm,
    }


def traced(quick):
    """Compares both paths with the published rule."""
    rows = []
    for shape in [(512, 1152)] if quick else [(512, 4608), (2048, 2048)]:
        kernel = keras.initializers.Orthogonal(seed=0)(shape)
        matrix = ops.convert_to_numpy(kernel)
        baseline = seconds(
            lambda m=matrix: published(m, np.random.default_rng(0))
        )
        row = both_paths(shape)
        row["baseline / host"] = baseline / row["host"]
        row["baseline / traced"] = baseline / row["traced"]
        rows.append(row)
    return rows


def device_paths(quick):
    """Times both paths for tensors on the default device (`--gpu`)."""
    shapes = [(512, 4608), (2048, 2048), (4096, 4096), (4096, 11008)]
    return [both_paths(shape) for shape in shapes[: 1 if quick else None]]


def threads(quick):
    """Compares the engine with and without its second thread."""
    side = 1024 if quick else 4096
    matrix = random_matrix(side, side)
    model = keras.applications.ResNet50(weights=None)
    rows = []
    for name, task in {
        f"{side}x{side}": lambda: rewire(matrix, seed=0),
        "ResNet-50": lambda: rewire_model(model, seed=0, verbose=0),
    }.items():
        row = {"kernels": name, "2 threads": seconds(task, 3)}
        with mock.patch.object(host_engine, "_AHEAD", math.inf):
            row["1 thread"] = seconds(task, 3)
        row["speed-up"] = row["1 thread"] / row["2 threads"]
        rows.append(row)
    return rows


def stabilized(quick):
    """Compares `StrengthStabilized` with only drawing its candidates."""
    shape, candidates = ((512, 1152), 10) if quick else ((512, 4608), 100)
    keras.initializers.Orthogonal(seed=0)(shape)  # Compiles, on JAX.
    draw = seconds(
        lambda: [
            wait_for(keras.initializers.Orthogonal(seed=seed)(shape))
            for seed in range(candidates)
        ]
    )
    pick = seconds(
        lambda: StrengthStabilized(candidates=candidates, seed=0)(shape)
    )
    return {
        "candidates": candidates,
        "stabilized": pick,
        "draws": draw,
        "stabilized / draws": pick / draw,
    }


def print_table(name, rows):
    """Prints one row or a list of rows."""
    rows = rows if isinstance(rows, list) else [rows]
    print(f"\n{name}")
    cells = [
        list(rows[0]),
        *(
            [
                f"{value:.4g}" if isinstance(value, float) else str(value)
                for value in row.values()
            ]
            for row in rows
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = zip(line, widths, strict=True)
        print("  " + "  ".join(cell.rjust(width) for cell, width in padded))


def draw(rows, path):
    """Plots time against the number of weights."""
    rows = sorted(rows, key=lambda row: np.prod(row["shape"]))
    rows = [row for row in rows if row["shape"][0] == row["shape"][1]]
    weights = [np.prod(row["shape"]) for row in rows]
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, label, color in (
        ("baseline", "published rule in NumPy", "tab:gray"),
        ("rewire", f"rewire on {BACKEND}", "tab:blue"),
        ("sort", "four times np.sort", "tab:green"),
    ):
        times = [row[name] for row in rows]
        axis.loglog(weights, times, "o-", color=color, label=label)
    axis.set(
        title="PA rewiring of square kernels",
        xlabel="weights",
        ylabel="seconds",
    )
    axis.legend()
    figure.savefig(path, dpi=120)


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--gpu", action="store_true", help="device paths only")
    parser.add_argument("--out", type=Path, default=output_folder("benchmark"))
    parser.add_argument("--measure", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure_memory(arguments.measure)
    # The section that includes compilation goes first.
    sections = (
        resnet50,
        sort_bound,
        memory,
        traced,
        threads,
        stabilized,
    )
    sections = (device_paths,) if arguments.gpu else sections
    progress = keras.utils.Progbar(len(sections), unit_name="table")
    results = {
        "command": " ".join(["python", *sys.argv]),
        "backend": BACKEND,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": find_device(ops.zeros(1)),
        "versions": {
            name: version(name)
            for name in ("keras_parewire", "keras", "numpy", BACKEND)
        },
    }
    for section in sections:
        results[section.__name__] = section(arguments.quick)
        progress.add(1)
    for section in sections:
        print_table(section.__doc__.splitlines()[0], results[section.__name__])
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = arguments.out / f"benchmark-{BACKEND}{'-gpu' * arguments.gpu}"
    stem.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    if not arguments.gpu:
        draw(results["sort_bound"], stem.with_suffix(".png"))
    print(f"\nWrote {stem}.json")


if __name__ == "__main__":
    main()
