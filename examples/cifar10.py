"""Trains networks on CIFAR-10 from paired initial weights, seed by seed.

    python examples/cifar10.py --model small_cnn --arms base,pa --seeds 0-19

For each seed all arms start from the same draw of the base, and all runs see
the same data in the same order with the same augmentation: only the weights
differ. Each run adds a row to `<out>/cifar10-<model>-<config>.csv`. Killed at
any moment, the same command goes on with what is missing; another
configuration gets another file. `cifar10_report.py` reads the rows.
`--smoke` trains every network for a moment on made-up images.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BACKENDS = ("tensorflow", "jax", "torch")
SCHEDULES = ("constant", "cosine", "onecycle")
RESULTS = Path(__file__).parent / "results"


def parse_seeds(text):
    """Reads seeds as in "0-19,30"; returns them in that order, each once."""
    seeds = {}
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            first = int(first)
            last = int(last) if dash else first
            if last < first:
                raise ValueError
            seeds.update(dict.fromkeys(range(first, last + 1)))
    except ValueError:
        raise argparse.ArgumentTypeError(
            "Seeds must be numbers and ascending ranges, as in 0-19,30. "
            f"Received: {text!r}"
        ) from None
    return list(seeds)


def one_of(names):
    """Returns a parser of one name."""

    def parse(text):
        if text not in names:
            raise argparse.ArgumentTypeError(
                f"It must be one of {', '.join(names)}. Received: {text!r}"
            )
        return text

    return parse


def some_of(names):
    """Returns a parser of names with commas between."""
    parse = one_of(names)
    return lambda text: [parse(name) for name in text.split(",")]


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


def choose_backend():
    """Sets the backend before anything imports Keras."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--backend", type=one_of(BACKENDS))
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_known_args()[0]
    if arguments.backend:
        os.environ["KERAS_BACKEND"] = arguments.backend
    if arguments.smoke:
        # A few steps are not worth what optimizing them takes.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=0"


def parse_arguments(models, arms):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument(
        "--model", type=one_of(models), help=", ".join(models), metavar="NAME"
    )
    parser.add_argument("--base", help="initializer (default: the model's)")
    parser.add_argument(
        "--arms",
        type=some_of(arms),
        default=["base", "pa"],
        help=f"of {','.join(arms)} (default: base,pa)",
    )
    parser.add_argument("--seeds", type=parse_seeds, default="0-4")
    parser.add_argument("--epochs", type=positive(int), default=5)
    parser.add_argument("--batch-size", type=positive(int), default=128)
    parser.add_argument(
        "--schedule", type=one_of(SCHEDULES), default="onecycle"
    )
    parser.add_argument("--learning-rate", type=positive(float))
    parser.add_argument(
        "--candidates",
        type=positive(int),
        default=300,
        help="draws that the arms lowest and highest choose from",
    )
    parser.add_argument(
        "--data-dir", type=Path, help="prepared data (default: tfds' own)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--backend", help="(default: the one KERAS_BACKEND names)"
    )
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if not arguments.smoke and not arguments.model:
        parser.error(f"--model must be one of {', '.join(models)}")
    return parser, arguments


def run_study(study, seeds, arms):
    """Trains what is missing, with a bar over all its epochs."""
    import keras

    runs = study.missing(seeds, arms)
    done = len(seeds) * len(arms) - len(runs)
    print(f"{study.path}: {done} runs are there, {len(runs)} are missing.")
    if runs:
        progress = keras.utils.Progbar(
            len(runs) * study.config["epochs"], unit_name="epoch"
        )
        study.run(runs, lambda: progress.add(1))


def main():
    """Runs a study, or a smoke test of all."""
    choose_backend()
    import cifar10_data
    from cifar10_arms import ARMS
    from cifar10_models import RECIPES
    from cifar10_study import Study

    parser, arguments = parse_arguments(tuple(RECIPES), tuple(ARMS))
    if not arguments.smoke:
        try:
            data = cifar10_data.load(arguments.data_dir)
        except FileNotFoundError as error:
            parser.error(str(error))
        study = Study(arguments, data)
        return run_study(study, arguments.seeds, arguments.arms)
    data = cifar10_data.synthetic()
    arguments.epochs, arguments.batch_size = 1, 8
    with tempfile.TemporaryDirectory() as folder:
        arguments.out = Path(folder)
        for model in [arguments.model] if arguments.model else RECIPES:
            arguments.model = model
            run_study(Study(arguments, data), [0], ["base", "pa"])
    print("The smoke test has passed.")


if __name__ == "__main__":
    main()
