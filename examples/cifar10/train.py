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
`<folder>.json`, for `report.py`. With `--margin` an arm gets no more seeds once
it is decided. With `--together` one program trains several runs at once, which
uses an accelerator better. `--smoke` briefly trains every network on made-up
images.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from command_line import names, numbers, output_folder
from keras_parewire.studies.environment import find_device

from cifar10 import data
from cifar10.arms import STABILIZED_CANDIDATES, make_arms
from cifar10.models import RECIPES
from cifar10.trainer import ORDER_SEED, PADDING, SCHEDULES, Trainer, schedule
from keras_parewire.studies import Study

# Raise it when you change what a run computes or what its row holds.
STUDY_VERSION = 4

OPTIMIZERS = {
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
}


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
    parser.add_argument("--model", choices=RECIPES, metavar="NAME")
    parser.add_argument("--base", help="initializer (default: the model's)")
    parser.add_argument(
        "--arms",
        type=names,
        default="base,pa",
        help=f"of {','.join(known)} (default: base,pa)",
    )
    parser.add_argument(
        "--seeds", type=numbers, default="0-4", help="(default: 0-4)"
    )
    parser.add_argument(
        "--margin",
        type=positive(float),
        help="points of test accuracy that matter; ends arms when decided",
    )
    parser.add_argument("--epochs", type=positive(int), default=5)
    parser.add_argument("--batch-size", type=positive(int), default=128)
    parser.add_argument("--schedule", choices=SCHEDULES, default="onecycle")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw")
    parser.add_argument("--learning-rate", type=positive(float))
    parser.add_argument(
        "--together",
        type=positive(int),
        help="runs that one program trains at once; needs JAX",
    )
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
    parser.set_defaults(network={})
    arguments = parser.parse_args()
    for arm in arguments.arms:
        if arm not in known:
            parser.error(
                f"--arms must be of {', '.join(known)}. Received: {arm!r}"
            )
    if arguments.together and keras.backend.backend() != "jax":
        parser.error("--together needs KERAS_BACKEND=jax")
    if arguments.together and arguments.vary_order:
        parser.error("--together needs the same order for all runs")
    if not arguments.smoke and not arguments.model:
        parser.error(f"--model must be one of {', '.join(RECIPES)}")
    return parser, arguments


def make_config(options, images):
    """Returns all that changes a result, since other studies never mix."""
    recipe = RECIPES[options.model]
    device = find_device(keras.ops.zeros(1)).split()[0]
    config = {
        "model": options.model,
        "base": options.base or recipe.base,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "schedule": options.schedule,
        "optimizer": options.optimizer,
        "learning_rate": options.learning_rate or recipe.learning_rate,
        "weight_decay": (
            recipe.weight_decay if options.optimizer == "adamw" else 0.0
        ),
        "augmentation": f"crop with padding {PADDING}, horizontal flip",
        "dtype": "float32",
        "backend": keras.backend.backend(),
        "device": device,
        "data": images.fingerprint,
        "split": [len(part) for part in images[2:5]],
        "split_seed": data.SPLIT_SEED,
        "order_seed": "of the run" if options.vary_order else ORDER_SEED,
        "candidates": options.candidates,
        "stabilized_candidates": STABILIZED_CANDIDATES,
        "study_version": STUDY_VERSION,
    }
    if options.schedule == "warmup":
        config["warmup_epochs"] = recipe.warmup_epochs
        config["long_epochs"] = recipe.long_epochs
    if options.together:
        config["together"] = options.together
    return config


def make_study(options, images, arms):
    """Returns the study of a command line, with some of its arms."""
    config = make_config(options, images)
    text = json.dumps(config, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    recipe = RECIPES[options.model]

    def make_optimizer(steps):
        rate = schedule(
            config["schedule"],
            config["learning_rate"],
            config["epochs"] * steps,
            recipe.warmup_epochs * steps,
            recipe.long_epochs * steps,
        )
        return OPTIMIZERS[config["optimizer"]](
            rate, weight_decay=config["weight_decay"] or None
        )

    # Eager is cheapest for a few steps; the small CNN tests compilation.
    eager = config["backend"] == "tensorflow" and options.model != "small_cnn"
    settings = images, options.epochs, options.batch_size, make_optimizer
    if options.together:
        # It imports JAX.
        from cifar10.together import TogetherTrainer

        trainer = TogetherTrainer(*settings, together=options.together)
    else:
        trainer = Trainer(
            *settings,
            vary_order=options.vary_order,
            run_eagerly=options.smoke and eager,
        )
    keras.config.set_dtype_policy(config["dtype"])
    known = make_arms(options.candidates)
    return Study(
        lambda: recipe.build(config["base"], **options.network),
        trainer,
        arms={arm: known[arm] for arm in arms},
        path=options.out / f"cifar10-{options.model}-{digest}",
        together=options.together,
        metric="test_accuracy",
        config=config,
    )


def run_study(options, images):
    """Trains the missing runs and writes all rows to one file."""
    study = make_study(options, images, options.arms)
    print(study.path)
    margin = options.margin and options.margin / 100
    study.run(options.seeds, until_decided=bool(margin), margin=margin)
    # With the arms of other calls.
    study = make_study(options, images, make_arms(options.candidates))
    study.to_csv(study.path.with_suffix(".csv"))
    config = json.dumps(make_config(options, images), indent=2)
    study.path.with_suffix(".json").write_text(config + "\n")


def main():
    """Runs a study, or a smoke test of all networks."""
    parser, arguments = parse_arguments()
    if not arguments.smoke:
        try:
            images = data.load(arguments.data_dir)
        except FileNotFoundError as error:
            parser.error(str(error))
        return run_study(arguments, images)
    arguments.epochs, arguments.batch_size = 1, 8
    arguments.seeds, arguments.arms = [0], ["base", "pa"]
    with tempfile.TemporaryDirectory() as folder:
        arguments.out = Path(folder)
        for model in [arguments.model] if arguments.model else RECIPES:
            arguments.model = model
            run_study(arguments, data.synthetic())
    print("The smoke test has passed.")


if __name__ == "__main__":
    main()
