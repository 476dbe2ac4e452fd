"""Measures how fast a network of the study trains here, to choose a backend.

    KERAS_BACKEND=torch OMP_NUM_THREADS=1 python examples/cifar10/speed.py \
        --model sl_vit

Trains on made-up images and prints images per second of wall time and per
second of processor time, compilation excluded. On a busy machine only the
latter means something. `taskset` limits the threads of every backend. With
`--together N`, on JAX, the same network is also trained from N starts at once,
and the ratio of both is printed.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras_parewire.studies.environment import count_threads

from cifar10 import data
from cifar10.models import RECIPES
from cifar10.trainer import Trainer


def measure(train, images, repeats):
    """Returns images a second: of wall time, and of processor time."""
    train()
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        train()
    wall = time.perf_counter() - wall
    processor = time.process_time() - processor
    return images * repeats / wall, images * repeats / processor


def main():
    """Trains once to compile, and measures how fast it trains again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=RECIPES, required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--together", type=int, help="how many starts at once")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--dtype", default="float32", help="a dtype policy")
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(arguments.dtype)
    count = arguments.steps * arguments.batch_size
    recipe = RECIPES[arguments.model]
    network = recipe.build(recipe.base)
    settings = (
        data.synthetic(count, 8, 8),
        1,
        arguments.batch_size,
        lambda steps: keras.optimizers.AdamW(1e-4),
    )
    alone = Trainer(*settings)
    found = measure(lambda: alone(network, 0), count, arguments.repeats)
    print(
        f"{arguments.model} on {keras.backend.backend()}, {arguments.dtype}, "
        f"{count_threads()} thread(s): {found[0]:.1f} images a second, "
        f"{found[1]:.1f} a second of processor time",
        flush=True,
    )
    number = arguments.together
    if number:
        # It imports JAX.
        from cifar10.together import TogetherTrainer

        starts = [network.get_weights()] * number
        together = TogetherTrainer(*settings, together=number)
        all_found = measure(
            lambda: together(network, [0] * number, starts),
            number * count,
            arguments.repeats,
        )
        ratios = [x / y for x, y in zip(all_found, found, strict=True)]
        print(
            f"{number} together: {all_found[0]:.1f} images a second, "
            f"{all_found[1]:.1f} a second of processor time; "
            f"{ratios[0]:.2f} and {ratios[1]:.2f} times as many"
        )


if __name__ == "__main__":
    main()
