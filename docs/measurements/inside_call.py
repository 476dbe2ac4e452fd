"""Measures what rewiring adds where layers are built inside `call`.

    python docs/measurements/inside_call.py

Layers that another layer only calls are built at the first call. If that is a
call on a `keras.Input`, Keras first draws every kernel to infer shapes, and
throws the values away. Writes `inside_call.md` beside itself: the processor
time of a block of eight Dense layers with `PARewired("glorot_uniform")`,
relative to `"glorot_uniform"`, on each backend in a process of its own.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
LAYERS, WIDTH, ROUNDS = 8, 12, 15


def measure():
    """Returns the ratio of the medians on this process's backend."""
    import keras

    from keras_parewire import PARewired

    class Block(keras.layers.Layer):
        def __init__(self, initializer):
            super().__init__()
            self.parts = [
                keras.layers.Dense(WIDTH, kernel_initializer=initializer())
                for _ in range(LAYERS)
            ]

        def call(self, x):
            for part in self.parts:
                x = part(x)
            return x

    def seconds(initializer):
        start = time.process_time()
        Block(initializer)(keras.Input((WIDTH,)))
        return time.process_time() - start

    rounds = [
        (
            seconds(lambda: "glorot_uniform"),
            seconds(lambda: PARewired("glorot_uniform")),
        )
        for _ in range(ROUNDS + 1)
    ]
    # The first round warms up.
    plain, rewired = map(statistics.median, zip(*rounds[1:], strict=True))
    return rewired / plain


def main():
    """Measures on all backends and writes the table."""
    ratios = [
        subprocess.run(
            [sys.executable, __file__, "--here"],
            env={**os.environ, "KERAS_BACKEND": name},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout.split()[-1]
        for name in BACKENDS
    ]
    text = f"""\
| | {" | ".join(BACKENDS.values())} |
| --- | --- | --- | --- |
| a block of {LAYERS} `Dense({WIDTH})` built inside `call` on a `keras.Input`: \
processor time, relative to the base alone | {" | ".join(ratios)} |
"""
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    if "--here" in sys.argv:
        print(f"{measure():.1f}")
    else:
        main()
