"""Estimates what it takes to rewire the kernels of a Llama with 70B weights.

    KERAS_BACKEND=jax python docs/measurements/large.py

Measures the time for each weight of a large kernel and that of
drawing an orthogonal kernel, and writes `large.md` beside itself: arithmetic,
not a measurement of that model.
"""

import time
from pathlib import Path

import keras
import numpy as np

from keras_parewire import rewire

LAYERS, WIDTH, KEYS, HIDDEN, WORDS = 80, 8192, 1024, 28672, 128256
# Query, key, value and output projections, the gated MLP, and the head. The
# embedding is not rewired.
SHAPES = [
    *LAYERS
    * (
        2 * [(WIDTH, WIDTH)]
        + 2 * [(WIDTH, KEYS)]
        + 2 * [(WIDTH, HIDDEN)]
        + [(HIDDEN, WIDTH)]
    ),
    (WIDTH, WORDS),
]


def seconds(function):
    """Returns the time of a call that has been made once before."""
    function()
    start = time.perf_counter()
    np.asarray(keras.ops.convert_to_numpy(function()))
    return time.perf_counter() - start


def qr_operations(shape):
    """Returns the operations of a QR decomposition and of forming its Q."""
    short, long = sorted(shape)
    return 4 * long * short**2 - 4 / 3 * short**3


def duration(value):
    """Returns a duration with a unit."""
    if value < 100:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.0f} h"


def main():
    """Measures and writes the table."""
    kernel = np.random.default_rng(0).standard_normal((4096, 8192), np.float32)
    for_weight = seconds(lambda: rewire(kernel, seed=0)) / kernel.size
    shape = (4096, 4096)
    orthogonal = keras.initializers.Orthogonal(seed=0)
    for_operation = seconds(lambda: orthogonal(shape)) / qr_operations(shape)
    sizes = [inputs * outputs for inputs, outputs in SHAPES]
    draws = sum(map(qr_operations, SHAPES)) * for_operation
    gigabytes = max(sizes) * 4 / 1e9
    text = f"""\
| {len(SHAPES)} kernels with {sum(sizes) / 1e9:.1f} billion weights | |
| --- | --- |
| rewiring, at {for_weight * 1e9:.0f} ns for each weight | \
{duration(sum(sizes) * for_weight)} |
| drawing them from an orthogonal base, at {1e-9 / for_operation:.0f} GFLOP/s \
for the QR decomposition | {duration(draws)} |
| memory while the largest kernel is rewired: four times its float32 values | \
{4 * gigabytes:.0f} GB |
"""
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
