"""Measures how fast a network of the study trains here, to choose a backend.

    KERAS_BACKEND=torch OMP_NUM_THREADS=1 python examples/cifar10/speed.py \
        --model sl_vit

Trains on made-up images and prints images per second of wall time and per
second of processor time, compilation excluded. On a busy machine only the
latter means something. `taskset` limits the threads of every backend.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from cifar10 import data
from cifar10.models import RECIPES
from cifar10.trainer import Trainer
from keras_parewire.studies.environment import count_threads


def main():
    """Trains twice and measures the second time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=RECIPES, required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    arguments = parser.parse_args()
    count = arguments.steps * arguments.batch_size
    recipe = RECIPES[arguments.model]
    network = recipe.build(recipe.base)
    trainer = Trainer(
        data.synthetic(count, 8, 8),
        1,
        arguments.batch_size,
        lambda steps: keras.optimizers.AdamW(1e-4),
    )
    trainer(network, 0)
    wall, processor = time.perf_counter(), time.process_time()
    trainer(network, 0)
    wall = time.perf_counter() - wall
    processor = time.process_time() - processor
    print(
        f"{arguments.model} on {keras.backend.backend()}, {count_threads()} "
        f"thread(s): {count / wall:.1f} images a second, "
        f"{count / processor:.1f} a second of processor time"
    )


if __name__ == "__main__":
    main()
