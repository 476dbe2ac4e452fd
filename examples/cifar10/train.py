"""Trains networks on CIFAR-10 from paired initial weights, seed by seed.

    python examples/cifar10/train.py --model small_cnn --arms base,pa \
        --seeds 0-19

For each seed all arms start from the same draw of the base, and all runs see
the same data in the same order with the same augmentation: only the weights
differ. With `--vary-order` the order and the augmentation follow the seed, and
are still the same for all arms. Each run adds a row to
`<out>/cifar10-<model>-<config>.csv`. If a study is interrupted, the same
command resumes it; another configuration gets a file of its own. `report.py`
reads the rows. `--smoke` briefly trains every network on made-up images.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from command_line import names, numbers, output_folder

from cifar10 import data
from cifar10.arms import ARMS
from cifar10.models import RECIPES
from cifar10.study import Study
from cifar10.trainer import SCHEDULES


def positive(kind):
    """Returns a parser of numbers above 0."""

    def parse(text):
        try:
            number = kind(text)
        except ValueError:
            number = 0
        if not number > 0:
            raise argparse.ArgumentTypeError(
                f"It must be a positive {kind.__name__}. Received: {text!r}"
            )
        return number

    return parse


def parse_arguments():
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--model", choices=RECIPES, metavar="NAME")
    parser.add_argument("--base", help="initializer (default: the model's)")
    parser.add_argument(
        "--arms",
        type=names,
        default="base,pa",
        help=f"of {','.join(ARMS)} (default: base,pa)",
    )
    parser.add_argument(
        "--seeds", type=numbers, default="0-4", help="(default: 0-4)"
    )
    parser.add_argument("--epochs", type=positive(int), default=5)
    parser.add_argument("--batch-size", type=positive(int), default=128)
    parser.add_argument("--schedule", choices=SCHEDULES, default="onecycle")
    parser.add_argument("--learning-rate", type=positive(float))
    parser.add_argument(
        "--vary-order",
        action="store_true",
        help="seed order and augmentation by the run, not alike for all",
    )
    parser.add_argument(
        "--candidates",
        type=positive(int),
        default=300,
        help="draws that the arms lowest and highest choose from",
    )
    parser.add_argument(
        "--data-dir", type=Path, help="prepared data (default: tfds' own)"
    )
    parser.add_argument("--out", type=Path, default=output_folder("cifar10"))
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    for arm in arguments.arms:
        if arm not in ARMS:
            parser.error(
                f"--arms must be of {', '.join(ARMS)}. Received: {arm!r}"
            )
    if not arguments.smoke and not arguments.model:
        parser.error(f"--model must be one of {', '.join(RECIPES)}")
    return parser, arguments


def run_study(study, seeds, arms):
    """Trains the missing runs, with a progress bar over all their epochs."""
    runs = study.missing(seeds, arms)
    done = len(seeds) * len(arms) - len(runs)
    print(f"{study.path}: {done} runs are there, {len(runs)} are missing.")
    if runs:
        progress = keras.utils.Progbar(
            len(runs) * study.config["epochs"], unit_name="epoch"
        )
        study.run(runs, lambda: progress.add(1))


def main():
    """Runs a study, or a smoke test of all networks."""
    parser, arguments = parse_arguments()
    if not arguments.smoke:
        try:
            images = data.load(arguments.data_dir)
        except FileNotFoundError as error:
            parser.error(str(error))
        study = Study(arguments, images)
        return run_study(study, arguments.seeds, arguments.arms)
    images = data.synthetic()
    arguments.epochs, arguments.batch_size = 1, 8
    with tempfile.TemporaryDirectory() as folder:
        arguments.out = Path(folder)
        for model in [arguments.model] if arguments.model else RECIPES:
            arguments.model = model
            run_study(Study(arguments, images), [0], ["base", "pa"])
    print("The smoke test has passed.")


if __name__ == "__main__":
    main()
