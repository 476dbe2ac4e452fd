"""Trains the cells of the map: `MAP_PLAN.md` says what for.

    KERAS_BACKEND=tensorflow TF_NUM_INTRAOP_THREADS=1 \
        python examples/cifar10/map.py --data-dir DIR

Rows are added to one CSV file for each cell as soon as they are made. Started
again, it goes on where it ended. Several processes share the work as
`--part 0/2` and `--part 1/2`, by seeds.
"""

import argparse
import json
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
from command_line import output_folder
from keras import ops

from cifar10 import data, map_networks, map_rows
from cifar10.arms import center_kernels, kernel_layers
from cifar10.map_cells import CELLS, LARGE_CELLS
from cifar10.models import RECIPES
from cifar10.trainer import OnDevice, epoch_orders, schedule
from keras_parewire import (
    output_scales,
    reinitialize,
    rescale_model,
    rewire_model,
)

EVALUATION_BATCH_SIZE = 500
# Validation images on which scales are measured.
PROBED = 512


class InTraining(keras.Model):
    """A network in training mode, which is how its first step sees it.

    Until then, the statistics of a batch normalization are not those of data.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, images, training=None):
        return self.network(images, training=True)


def make_optimizer(cell, steps):
    """Returns the optimizer of a cell, with a number of steps in an epoch."""
    large = cell.model in LARGE_CELLS
    recipe = RECIPES[cell.model if large else "small_cnn"]
    rate = schedule(
        "warmup" if large else "onecycle",
        recipe.learning_rate,
        cell.epochs * steps,
        recipe.warmup_epochs * steps,
        recipe.long_epochs * steps,
    )
    return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)


class Runner:
    """Trains the network of a cell from many starts, and compiles it once."""

    def __init__(self, cell, images):
        self.cell = cell
        self.images = images
        self.network = map_networks.build(cell)
        self.model = OnDevice(self.network, images.images)
        self.model(images.test[:1])
        self.constants = [
            layer.constant
            for layer in self.network.layers
            if isinstance(layer, map_networks.ConstantAndBias)
        ]
        self.seen = InTraining(self.network)
        self.probe = self.model.read(
            ops.convert_to_tensor(images.validation[:PROBED])
        )
        self.seen(self.probe)
        self.steps = len(images.train) // cell.batch_size
        optimizer = make_optimizer(cell, self.steps)
        self.model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            # One call of the backend for each epoch, where it can.
            steps_per_execution=(
                1 if keras.backend.backend() == "torch" else self.steps
            ),
        )
        optimizer.build(self.model.trainable_variables)
        # What a training changes besides the weights, which are drawn anew.
        self.state = [
            (variable, ops.convert_to_numpy(variable).copy())
            for variable in (
                *self.model.non_trainable_variables,
                *optimizer.variables,
            )
            if variable is not self.model.pixels
        ]

    def run(self, arm, seed):
        """Returns the numbers of one run: the same whenever it is made."""
        started = time.monotonic()
        self.start(arm, seed)
        kernels = [row for row in self.scales() if row.skipped is None]
        constants = self.constants or [1.0] * len(kernels)
        numbers = {}
        for number, (row, constant) in enumerate(
            zip(kernels, constants, strict=True), 1
        ):
            square = (row.rms * float(constant)) ** 2
            numbers[f"mean_square_{number}"] = square
            numbers[f"constant_share_{number}"] = row.constant_share
        numbers |= self.train(seed)
        return numbers | {"seconds": round(time.monotonic() - started, 1)}

    def start(self, arm, seed):
        """Makes the start of an arm from the plain start of a seed."""
        for variable, value in self.state:
            variable.assign(value)
        reinitialize(self.network, seed=seed)
        name, _, scale = arm.partition("*")
        if name == "pa":
            rewire_model(self.network, seed=seed)
        elif name == "scaled":
            self.rescale(self.scales_after(rewire_model, seed=seed))
        elif name == "pa_up":
            plain = self.scales()
            rewire_model(self.network, seed=seed)
            self.rescale(plain)
        elif name == "centered":
            center_kernels(self.network, seed)
        elif name == "centered_scaled":
            self.rescale(self.scales_after(center_kernels, seed=seed))
        elif name == "signals":
            plain = self.network.get_weights()
            report = self.rescale(self.scales_after(rewire_model, seed=seed))
            self.network.set_weights(plain)
            factors = [row.factor for row in report if row.skipped is None]
            for constant, factor in zip(self.constants, factors, strict=True):
                constant.assign(factor)
        elif name != "base":
            raise ValueError(f"There is no such arm. Received: arm={arm!r}")
        if scale:
            first = kernel_layers(self.network)[0].kernel
            first.assign(first * float(scale))

    def scales(self):
        """Returns the scales of the kernels' outputs."""
        return output_scales(self.seen, self.probe)

    def scales_after(self, change, **options):
        """Returns the scales after a change, which is undone."""
        plain = self.network.get_weights()
        change(self.network, **options)
        scales = self.scales()
        self.network.set_weights(plain)
        return scales

    def rescale(self, scales):
        """Rescales the kernels to these scales."""
        return rescale_model(self.seen, self.probe, scales)

    def train(self, seed):
        """Returns the accuracies of a training from the present start."""
        images = self.images
        order = epoch_orders(
            images.train,
            self.cell.epochs,
            self.steps * self.cell.batch_size,
            seed,
        )
        keras.utils.set_random_seed(seed)
        self.model.augmentation.state.assign([seed, 0])
        history = self.model.fit(
            order,
            images.labels[order],
            batch_size=self.cell.batch_size,
            epochs=self.cell.epochs,
            steps_per_epoch=self.steps,
            shuffle=False,
            verbose=0,
        ).history
        result = self.model.evaluate(
            images.test,
            images.labels[images.test],
            batch_size=EVALUATION_BATCH_SIZE,
            verbose=0,
            return_dict=True,
        )
        return {
            "test_accuracy": result["accuracy"],
            **{
                f"epoch_{epoch}_accuracy": accuracy
                for epoch, accuracy in enumerate(history["accuracy"], 1)
            },
        }


def environment(images):
    """Returns what the rows were made with, as JSON."""
    backend = keras.backend.backend()
    packages = "keras", "keras_parewire", "numpy", backend
    return json.dumps(
        {
            "backend": backend,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
            "images": images.fingerprint,
        },
        indent=1,
    )


def main():
    """Makes the rows that are missing."""
    cells = CELLS | LARGE_CELLS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cells", help="names, with commas; default: small ones"
    )
    parser.add_argument("--part", default="0/1", help="as 0/2 and 1/2")
    parser.add_argument("--data-dir", help="a folder of TensorFlow Datasets")
    parser.add_argument("--out", type=Path, default=output_folder("map"))
    arguments = parser.parse_args()
    part, parts = map(int, arguments.part.split("/"))
    images = data.load(arguments.data_dir)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "environment.json").write_text(environment(images))
    for name in arguments.cells.split(",") if arguments.cells else CELLS:
        path, runner = arguments.out / f"{name}.csv", None
        done = {(row["arm"], int(row["seed"])) for row in map_rows.read(path)}
        for seed in cells[name].seeds[part::parts]:
            for arm in cells[name].arms:
                if (arm, seed) in done:
                    continue
                if (arguments.out / "STOP").exists():
                    return
                runner = runner or Runner(cells[name], images)
                numbers = runner.run(arm, seed)
                map_rows.append(path, {"arm": arm, "seed": seed, **numbers})
        keras.utils.clear_session()


if __name__ == "__main__":
    main()
