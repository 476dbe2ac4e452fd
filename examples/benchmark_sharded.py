"""Times building kernels sharded over eight virtual devices, on JAX.

    KERAS_BACKEND=jax python examples/benchmark_sharded.py

Builds twelve kernels of 0.5 to 2.4 million weights on a mesh of 2 x 4 devices
and on a single device, in turns, and prints the ratio of each pair. The first
round compiles the draws of the base, on either side the same.
"""

import argparse
import os
import time

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import keras

from keras_parewire import PARewired

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


def seconds_to_build():
    """Builds a layer for each shape; returns the time it takes."""
    start = time.perf_counter()
    for seed, (inputs, outputs) in enumerate(SHAPES):
        initializer = PARewired("he_normal", seed=seed)
        layer = keras.layers.Dense(outputs, kernel_initializer=initializer)
        layer.build((None, inputs))
        layer.kernel.value.block_until_ready()
    return time.perf_counter() - start


def shard():
    """Shards the outputs of every kernel over four of the eight devices."""
    mesh = keras.distribution.DeviceMesh(
        (2, 4), ["batch", "model"], keras.distribution.list_devices("cpu")
    )
    layout_map = keras.distribution.LayoutMap(mesh)
    layout_map[".*kernel"] = (None, "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout_map)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    for number in range(parser.parse_args().rounds):
        keras.distribution.set_distribution(None)
        single = seconds_to_build()
        shard()
        sharded = seconds_to_build()
        print(
            f"round {number}: single device {single:.2f} s, sharded "
            f"{sharded:.2f} s, ratio {sharded / single:.2f}"
        )
