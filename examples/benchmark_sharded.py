"""Measures kernels that are sharded over several devices and hosts, on JAX.

    KERAS_BACKEND=jax python examples/benchmark_sharded.py

Three tables, with virtual devices on one CPU:

- Twelve kernels of 0.5 to 2.4 million weights, built on a mesh of 2 x 4 devices
  and on a single device, in turns. The first round compiles the draws of the
  base, the same on either side.
- One kernel of 8192 x 28672 weights, built on eight devices and on one: time,
  and peak memory of the process above what it used before.
- `rewire_model` on a job of one process and of two, with eight devices in all:
  the processor time of each process, and its peak above what it used before.

Writes `benchmark-sharded.json`.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

import jax
import keras
from command_line import output_folder
from process_memory import Peak

from keras_parewire import PARewired, rewire_model

DEVICES = 8
SHAPES = [
    (512, 1024),
    (1024, 512),
    (768, 768),
    (1024, 1024),
    (512, 2048),
    (2048, 512),
    (768, 1536),
    (1536, 768),
    (1024, 2048),
    (2048, 1024),
    (1536, 1536),
    (1024, 2304),
]


def shard():
    """Shards the outputs of every kernel over four of the eight devices."""
    mesh = keras.distribution.DeviceMesh(
        (2, 4), ["batch", "model"], keras.distribution.list_devices("cpu")
    )
    layout_map = keras.distribution.LayoutMap(mesh)
    layout_map[".*kernel"] = ("batch", "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout_map)
    )


def build(inputs, outputs, seed=0):
    """Builds a layer, whose kernel is then rewired."""
    initializer = PARewired("he_normal", seed=seed)
    layer = keras.layers.Dense(outputs, kernel_initializer=initializer)
    layer.build((None, inputs))
    layer.kernel.value.block_until_ready()
    return layer


def seconds_to_build(shapes):
    """Builds a layer for each shape; returns the time it takes."""
    start = time.perf_counter()
    for seed, shape in enumerate(shapes):
        build(*shape, seed=seed)
    return time.perf_counter() - start


def several_kernels(rounds, shapes):
    """Builds several kernels in turns, sharded and not."""
    rows = []
    for number in range(rounds):
        keras.distribution.set_distribution(None)
        single = seconds_to_build(shapes)
        shard()
        sharded = seconds_to_build(shapes)
        keras.distribution.set_distribution(None)
        rows.append({"single": single, "sharded": sharded})
        print(
            f"round {number}: single device {single:.2f} s, sharded "
            f"{sharded:.2f} s, ratio {sharded / single:.2f}",
            flush=True,
        )
    return rows


def large_kernel(sharded, shape):
    """Builds a large kernel; returns seconds and peak memory in kernels."""
    if sharded:
        shard()
    build(64, 64)
    peak, start = Peak(), time.perf_counter()
    build(*shape)
    elapsed, above = time.perf_counter() - start, peak.above()
    kernels = above and above / (4 * shape[0] * shape[1])
    return {"seconds": elapsed, "peak in kernels": kernels}


def host(count, process, port, width, kernels):
    """Rewires a model as one of several processes."""
    if count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(f"127.0.0.1:{port}", count, process)
    shard()
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(width) for _ in range(kernels)]
    model = keras.Sequential([keras.Input((width,)), *layers])
    # The first call compiles what gathers and places a kernel.
    rewire_model(model, seed=0, layers=layers[:2], verbose=0)
    peak, start = Peak(), time.process_time()
    rewire_model(model, seed=0, verbose=0)
    elapsed, above = time.process_time() - start, peak.above()
    return {
        "processor seconds": elapsed,
        "peak in models": above and above / (4 * width * width * kernels),
    }


def in_new_process(*task, devices=DEVICES):
    """Starts this script on one of its tasks."""
    return subprocess.Popen(
        [sys.executable, __file__, "--task", json.dumps(task)],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        text=True,
    )


def result(process):
    """Returns what a task has measured."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    return json.loads(output.splitlines()[-1])


def main():
    """Measures everything, each in processes of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="few, small kernels"
    )
    parser.add_argument("--out", type=Path, default=output_folder("benchmark"))
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        name, *values = arguments.task
        task = {"large": large_kernel, "host": host}[name]
        return print(json.dumps(task(*values)))
    shape = (256, 512) if arguments.quick else (8192, 28672)
    width, kernels = (64, 4) if arguments.quick else (1024, 64)
    shapes = SHAPES[:1] if arguments.quick else SHAPES
    results = {"twelve kernels": several_kernels(arguments.rounds, shapes)}
    results["large kernel"] = {"shape": shape}
    for sharded in (False, True):
        row = result(in_new_process("large", sharded, shape))
        name = "sharded" if sharded else "single"
        results["large kernel"][name] = row
        print(f"{shape[0]} x {shape[1]}, {name}: {row}", flush=True)
    results["hosts"] = {}
    for count in (1, 2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = [
            in_new_process(
                *("host", count, process, port, width, kernels),
                devices=DEVICES // count,
            )
            for process in range(count)
        ]
        rows = [result(process) for process in processes]
        results["hosts"][count] = rows
        print(f"{count} process(es): {rows}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "benchmark-sharded.json"
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
