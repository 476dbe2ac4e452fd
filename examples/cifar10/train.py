"""Trains networks on CIFAR-10 from paired initial weights, seed by seed.

    python examples/cifar10/train.py --model small_cnn --arms base,pa \
        --seeds 0-19

For each seed all arms start from the same draw of the base, and all runs see
the same data in the same order with the same augmentation: only the weights
differ. With `--vary-order` the order and the augmentation follow the seed, and
are still the same for all arms. The runs are a `keras_parewire.studies.Study`
in the folder `<out>/cifar10-<model>-<config>`: if it is interrupted, the same
command resumes it; another configuration gets a folder of its own. At the end
all its rows are written to `<folder>.csv`, and the configuration to
`<folder>.json`, for `report.py`. Several processes may share a study, each with
its part of the seeds.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from command_line import names, numbers, output_folder

from cifar10 import data, rows
from cifar10.arms import make_arms
from cifar10.models import RECIPES
from cifar10.trainer import ORDER_SEED, PADDING, SCHEDULES, Trainer, schedule
from keras_parewire.studies import Study

# Raise it when you change what a run computes or what its row holds.
STUDY_VERSION = 5
# In images that are trained on: an epoch of 45,000 and the evaluation of 5,000,
# and that of 10,000 in the end. Three are evaluated in the time for one.
EPOCH_COST, TEST_COST = 45_000 + 5_000 / 3, 10_000 / 3


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
    known = make_arms(1)
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], allow_abbrev=False
    )
    count = positive(int)
    choices = {"model": RECIPES, "schedule": SCHEDULES}
    for option, kind, default, text in (
        ("model", str, None, f"the network: {', '.join(RECIPES)}"),
        ("base", str, None, "initializer of all kernels; else the network's"),
        ("arms", names, "base,pa", f"of {','.join(known)}"),
        ("seeds", numbers, "0-4", "one run for each seed and arm"),
        ("epochs", count, 5, "of each run"),
        ("batch-size", count, 128, "images in a step"),
        ("schedule", str, "onecycle", f"of the rate: {', '.join(SCHEDULES)}"),
        ("learning-rate", positive(float), None, "else the network's"),
        ("candidates", count, 300, "draws that lowest and highest choose from"),
        ("together", count, None, "runs trained at once; needs JAX"),
        ("data-dir", Path, None, "prepared data; else tfds' own, downloaded"),
        ("out", Path, None, "folder for rows; else output/cifar10"),
    ):
        parser.add_argument(
            f"--{option}",
            type=kind,
            default=default,
            choices=choices.get(option),
            metavar=option.rpartition("-")[2].upper(),
            help=f"{text} (default: {default})" if default else text,
        )
    parser.add_argument(
        "--vary-order",
        action="store_true",
        help="seed order and augmentation by the run, not alike for all",
    )
    parser.add_argument(
        "--estimate",
        type=count,
        nargs="?",
        const=50,
        metavar="STEPS",
        help="only say how long the command will take, after training so many "
        "steps on made-up images (default: 50)",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="train the network, or all of them, for some steps on made-up "
        "images; rows are kept with --out only",
    )
    arguments = parser.parse_args()
    for arm in set(arguments.arms) - set(known):
        parser.error(f"--arms must be of {', '.join(known)}. Received: {arm!r}")
    if arguments.together and keras.backend.backend() != "jax":
        parser.error("--together needs KERAS_BACKEND=jax")
    if arguments.together and arguments.vary_order:
        parser.error("--together needs the same order for all runs")
    if not arguments.smoke:
        arguments.out = arguments.out or output_folder("cifar10")
    if not arguments.smoke and not arguments.model:
        parser.error(f"--model must be one of {', '.join(RECIPES)}")
    return parser, arguments


def make_config(options, images):
    """Returns all that changes a result, since other studies never mix."""
    recipe = RECIPES[options.model]
    config = {
        "model": options.model,
        "base": options.base or recipe.base,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "schedule": options.schedule,
        "learning_rate": options.learning_rate or recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "augmentation": f"crop with padding {PADDING}, horizontal flip",
        "dtype": "float32",
        "backend": keras.backend.backend(),
        "data": images.fingerprint,
        "split": [len(part) for part in images[2:5]],
        "split_seed": data.SPLIT_SEED,
        "order_seed": "of the run" if options.vary_order else ORDER_SEED,
        "candidates": options.candidates,
        "study_version": STUDY_VERSION,
    }
    if options.schedule == "warmup":
        config["warmup_epochs"] = recipe.warmup_epochs
        config["long_epochs"] = recipe.long_epochs
    if options.together:
        config["together"] = options.together
    return config


def make_trainer(options, config, images):
    """Returns the trainer of a configuration."""
    recipe = RECIPES[options.model]

    def make_optimizer(steps):
        rate = schedule(
            config["schedule"],
            config["learning_rate"],
            config["epochs"] * steps,
            recipe.warmup_epochs * steps,
            recipe.long_epochs * steps,
        )
        return keras.optimizers.AdamW(rate, weight_decay=config["weight_decay"])

    keras.config.set_dtype_policy(config["dtype"])
    settings = (
        lambda: recipe.build(config["base"]),
        images,
        config["epochs"],
        config["batch_size"],
        make_optimizer,
    )
    if options.together:
        # It imports JAX.
        from cifar10.together import TogetherTrainer

        return TogetherTrainer(*settings, together=options.together)
    # Eager is cheapest for a few steps; the small CNN tests compilation.
    eager = config["backend"] == "tensorflow" and options.model != "small_cnn"
    return Trainer(
        *settings,
        vary_order=options.vary_order,
        run_eagerly=options.smoke and eager,
    )


def make_study(options, config, trainer, arms):
    """Returns the study of a configuration, with some of its arms."""
    text = json.dumps(config, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    known = make_arms(config["candidates"])
    return Study(
        trainer.make_model,
        trainer.train,
        arms={arm: known[arm] for arm in arms},
        path=options.out / f"cifar10-{config['model']}-{digest}",
        metric="test_accuracy",
        config=config,
    )


def run_study(options, images):
    """Makes the missing runs and writes all rows to one file."""
    config = make_config(options, images)
    trainer = make_trainer(options, config, images)
    study = make_study(options, config, trainer, options.arms)
    print(study.path)
    if options.together:
        run_together(study, trainer, options.seeds)
    else:
        study.run(options.seeds)
    # With the arms of other calls.
    known = make_arms(config["candidates"])
    rows.write(make_study(options, config, trainer, known), config)


def run_together(study, trainer, seeds):
    """Makes the missing runs, several at once."""
    there = {(row["arm"], row["seed"]) for row in study.rows()}
    runs = [(arm, seed) for seed in seeds for arm in study.arms]
    missing = [run for run in runs if run not in there]
    bar = keras.utils.Progbar(len(missing), unit_name="run")
    for first in range(0, len(missing), trainer.together):
        part = missing[first : first + trainer.together]
        found = trainer.train_all([(study.arms[a], seed) for a, seed in part])
        for (arm, seed), metrics in zip(part, found, strict=True):
            study.add(arm, seed, metrics)
        bar.add(len(part))


def estimate(options):
    """Prints how fast runs train here, and how long the command will take."""
    count = options.estimate * options.batch_size
    images = data.synthetic(count, 8, 8)
    epochs, options.epochs = options.epochs, 1
    trainer = make_trainer(options, make_config(options, images), images)

    def train():
        start = time.perf_counter()
        if options.together:
            trainer.train_all([(None, 0)] * options.together)
        else:
            trainer.train(trainer.make_model(), 0)
        return time.perf_counter() - start

    first, again = train(), train()
    rate = (options.together or 1) * count / again
    runs = len(options.seeds) * len(options.arms)
    seconds = first + runs * (epochs * EPOCH_COST + TEST_COST) / rate
    print(
        f"{options.model}: {rate:.0f} images a second, so about "
        f"{seconds / 60:.0f} minutes for {runs} runs, epochs of each: {epochs}"
    )


def main():
    """Runs a study, a smoke test, or a short one to estimate its time."""
    parser, arguments = parse_arguments()
    if arguments.smoke:
        arguments.epochs, arguments.batch_size = 1, 8
        arguments.seeds, arguments.arms = [0], ["base", "pa"]
        with tempfile.TemporaryDirectory() as folder:
            arguments.out = arguments.out or Path(folder)
            for model in [arguments.model] if arguments.model else RECIPES:
                arguments.model = model
                run_study(arguments, data.synthetic())
        return print("The smoke test has passed.")
    if arguments.estimate:
        return estimate(arguments)
    try:
        images = data.load(arguments.data_dir)
    except FileNotFoundError as error:
        parser.error(str(error))
    run_study(arguments, images)


if __name__ == "__main__":
    main()
