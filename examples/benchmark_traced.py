"""Measures what a kernel costs that is initialized inside a compiled program.

    KERAS_BACKEND=jax python examples/benchmark_traced.py

As in `jax.jit`, `tf.function` and the first `fit` of a model without an
`Input`. Compares `PARewired("he_normal")` with `he_normal` alone: the size of
the program with its constants, the time to make it ready, the time of a run,
and the peak of the process, each in a process of its own. Writes
`benchmark-traced-<backend>.json`. On JAX and TensorFlow, and on Linux.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from command_line import output_folder
from process_memory import Peak

from keras_parewire import PARewired

SHAPES = (512, 4608), (2048, 8192), (4096, 16384)
BACKEND = keras.backend.backend()


def prepare_jax(function):
    """Returns the compiled program and its size in bytes."""
    import jax

    lowered = jax.jit(function).lower()
    module = lowered.compiler_ir("hlo").as_serialized_hlo_module_proto()
    compiled = lowered.compile()
    return lambda: compiled().block_until_ready(), len(module)


def prepare_tensorflow(function):
    """Returns the traced program and its size in bytes."""
    import tensorflow as tf

    concrete = tf.function(function).get_concrete_function()
    size = concrete.graph.as_graph_def().ByteSize()
    return lambda: concrete().numpy(), size


def measure(rewired, shape):
    """Initializes one kernel inside a program; returns what it costs."""
    initializer = keras.initializers.HeNormal(seed=0)
    if rewired:
        initializer = PARewired(initializer)
    prepare = {"jax": prepare_jax, "tensorflow": prepare_tensorflow}[BACKEND]
    # Memory and caches of the backend's own start-up do not count.
    prepare(lambda: keras.initializers.HeNormal(seed=1)((2, 3)))[0]()
    peak, start = Peak(), time.perf_counter()
    run, size = prepare(lambda: initializer(shape))
    ready = time.perf_counter()
    run()
    first = time.perf_counter()
    return {
        "program in bytes": size,
        "seconds to compile": ready - start,
        "seconds of the first run": first - ready,
        "peak in kernels": peak.above() / (4 * shape[0] * shape[1]),
    }


def main():
    """Measures all shapes and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="a small kernel")
    parser.add_argument("--out", type=Path, default=output_folder("benchmark"))
    arguments = parser.parse_args()
    if BACKEND == "torch":
        parser.error("Keras traces kernels on JAX and TensorFlow only")
    if arguments.one:
        rewired, *shape = arguments.one
        return print(json.dumps(measure(bool(rewired), tuple(shape))))
    results = []
    for shape in [(64, 48)] if arguments.quick else SHAPES:
        plain, rewired = (
            json.loads(
                subprocess.check_output(
                    [sys.executable, __file__, "--one", *map(str, one)]
                ).splitlines()[-1]
            )
            for one in ((0, *shape), (1, *shape))
        )
        results.append({"shape": shape, "plain": plain, "rewired": rewired})
        print(
            f"{shape[0]} x {shape[1]}: program "
            f"{rewired['program in bytes'] / 2**20:.2f} MiB, compiled in "
            f"{rewired['seconds to compile']:.1f} s "
            f"({plain['seconds to compile']:.1f} s plain), first run "
            f"{rewired['seconds of the first run']:.1f} s "
            f"({plain['seconds of the first run']:.1f} s plain), peak "
            f"{rewired['peak in kernels']:.1f} kernels "
            f"({plain['peak in kernels']:.1f} plain)",
            flush=True,
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"benchmark-traced-{BACKEND}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
