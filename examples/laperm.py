r"""Trains by re-ordering initial weights (LaPerm), compared with plain Adam.

    python examples/laperm.py
    python examples/laperm.py --model conv2 --arms adam,laperm --seeds 0 \
        --epochs 3 --data-dir DIR

By default three arms start from the same draw for the same seed: `adam`;
`laperm`, which is Adam with a sync to a permutation of the initial weights at
the end of each epoch (`LookaheadPermutation`); and `pa-laperm`, the same from a
PA-rewired start. `sparse-laperm` starts with half of the weights at zero, and
`shared-laperm` with kernels of one value and zeros (`laperm_pools.py`).

Each sync changes the weights, but not the moving statistics of batch
normalization. So the script measures the test accuracy three times: right
before a sync, right after it, and after it with statistics that are
re-estimated from training data. The training does not use these statistics, and
nothing is selected by the test set.

By default the script trains on scikit-learn's digits, which takes about three
minutes on two cores. `conv2` and `conv4` are the networks of Qiu and Suda
(2020) for CIFAR-10, which TensorFlow Datasets must have prepared in DIR. Each
finished run is a row of `laperm.csv` and is not repeated the next time.

These runs differ from the published ones in the scale of the pixels, here
[0, 1] instead of 0 to 255, and in where dropout is applied, which the paper
does not say: 0.3 after each pooling, 0.5 after each hidden Dense layer. The
hidden Dense layers are followed by ReLU and normalization, as convolutions are.
"""

import argparse
import csv
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import command_line
import keras
import matplotlib.pyplot as plt
import numpy as np
from cifar10.data import load_train_and_test
from keras import layers, ops
from laperm_pools import random_prune, share_value
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_parewire import LookaheadPermutation, PARewired

BATCH = 50
REESTIMATION = 5_000  # Images that statistics are re-estimated from.
COLORS = {
    "adam": "tab:gray",
    "laperm": "tab:orange",
    "pa-laperm": "tab:blue",
    "sparse-laperm": "tab:green",
    "shared-laperm": "tab:purple",
}
# Widths of the convolutions between poolings, and of the hidden Dense layers.
MODELS = {
    "digits": ([(16, 16)], 64),
    "conv2": ([(64, 64)], 256),
    "conv4": ([(64, 64), (128, 128)], 256),
}
KEY = ("model", "arm", "seed", "epochs", "backend")
COLUMNS = (
    *KEY,
    "sync_period",
    "seconds_per_epoch",
    "sync_share",
    "before_sync",
    "after_sync",
    "reestimated",
)


def load_data(model, folder):
    """Returns uint8 images, shape `(n, h, w, c)`, and labels: train, test."""
    if model == "digits":
        digits = load_digits()
        split = train_test_split(
            digits.images[..., np.newaxis].astype("uint8"),
            digits.target,
            test_size=0.3,
            random_state=0,
        )
        return (split[0], split[2]), (split[1], split[3])
    return load_train_and_test(folder)


def make_model(name, arm, seed):
    """Builds and compiles a network, from the same draw for the same seed."""
    keras.utils.set_random_seed(seed)
    blocks, units = MODELS[name]

    def options(l2=1e-4):
        init = "he_uniform"
        return {
            "kernel_initializer": PARewired(init)
            if arm == "pa-laperm"
            else init,
            "bias_initializer": "he_uniform",
            "kernel_regularizer": keras.regularizers.L2(l2) if l2 else None,
        }

    if name == "digits":
        parts = [
            keras.Input((8, 8, 1), dtype="uint8"),
            layers.Rescaling(1 / 16),
        ]
    else:
        parts = [
            keras.Input((32, 32, 3), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.RandomRotation(15 / 360, fill_mode="nearest"),
            layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
            layers.RandomFlip("horizontal"),
        ]
    for widths in blocks:
        for width in widths:
            parts += [
                layers.Conv2D(width, 3, padding="same", **options()),
                layers.ReLU(),
                layers.BatchNormalization(),
            ]
        parts += [layers.MaxPooling2D(), layers.Dropout(0.3)]
    parts.append(layers.Flatten())
    for _ in range(2):
        parts += [
            layers.Dense(units, **options()),
            layers.ReLU(),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
        ]
    parts.append(layers.Dense(10, "softmax", **options(l2=None)))
    model = keras.Sequential(parts)
    if arm == "sparse-laperm":
        random_prune(model, sparsity=0.5, seed=seed)
    elif arm == "shared-laperm":
        share_value(model, 0.08, sparsity=0.5, seed=seed)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def reestimate_statistics(model, images):
    """Re-estimates the statistics of batch normalization from `images`.

    As is usual for averaged weights, the new statistics are means over all
    batches, each passed through the model as in training, with dropout and
    augmentation.
    """
    normalization = [
        layer
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in normalization]
    starts = range(0, len(images), BATCH)
    for number, start in enumerate(starts):
        for layer in normalization:
            layer.momentum = number / (number + 1)
        model(images[start : start + BATCH], training=True)
    for layer, momentum in zip(normalization, momenta, strict=True):
        layer.momentum = momentum


class Watch(keras.callbacks.Callback):
    """Measures accuracies and times at the end of epochs, around the sync.

    Place it before the callback that syncs, and its method `after` behind that.
    """

    def __init__(self, images, test, progress):
        super().__init__()
        self.images = images[:REESTIMATION]
        self.test_images, self.test_labels = test
        self.progress = progress
        self.before_sync, self.after_sync, self.reestimated = [], [], []
        self.train_seconds = self.sync_seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Measures the trained weights."""
        if batch + 1 < self.params["steps"]:
            return
        # Waits for the step to be finished.
        ops.convert_to_numpy(self.model.optimizer.iterations)
        self.train_seconds += time.perf_counter() - self.start
        self.before_sync.append(self.measure())
        self.start = time.perf_counter()

    def after(self, batch, logs=None):
        """Measures the synced weights, with old and re-estimated statistics."""
        if batch + 1 < self.params["steps"]:
            return
        self.sync_seconds += time.perf_counter() - self.start
        self.after_sync.append(self.measure())
        # Saved and restored, so that measuring does not affect the training:
        # these variables include the states of dropout.
        variables = self.model.non_trainable_variables
        values = [np.array(ops.convert_to_numpy(v)) for v in variables]
        reestimate_statistics(self.model, self.images)
        self.reestimated.append(self.measure())
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self.progress.add(1)

    def measure(self):
        """Returns the test accuracy, by calls that do not disturb `fit`."""
        hits = 0
        for i in range(0, len(self.test_images), 500):
            part = self.model(self.test_images[i : i + 500], training=False)
            labels = self.test_labels[i : i + 500]
            hits += (ops.convert_to_numpy(part).argmax(1) == labels).sum()
        return hits / len(self.test_images)


def train(row, data, progress):
    """Trains one network; returns the row with its results."""
    (images, labels), test = data
    model = make_model(row["model"], row["arm"], int(row["seed"]))
    period = -(-len(images) // BATCH)  # The steps of an epoch.
    watch = Watch(images, test, progress)
    callbacks = [
        keras.callbacks.LearningRateScheduler(
            lambda epoch: 1e-3 * 0.6 ** (epoch // 10)
        ),
        watch,
        keras.callbacks.LambdaCallback(on_train_batch_end=watch.after),
    ]
    syncs = row["arm"] != "adam"
    if syncs:
        callbacks.insert(2, LookaheadPermutation(period))
    epochs = int(row["epochs"])
    model.fit(images, labels, BATCH, epochs, verbose=0, callbacks=callbacks)
    seconds = watch.train_seconds + watch.sync_seconds
    return (
        row
        | {
            "sync_period": period if syncs else "",
            "seconds_per_epoch": f"{seconds / epochs:.3f}",
            "sync_share": f"{watch.sync_seconds / seconds:.5f}",
        }
        | {
            column: " ".join(f"{x:.4f}" for x in getattr(watch, column))
            for column in ("before_sync", "after_sync", "reestimated")
        }
    )


def read_rows(path):
    """Returns the rows of the runs that are done."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    """Writes all rows, so that an interrupted run leaves no partial row."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)


def curves(rows, column):
    """Returns one column of several runs, in %, shape `(seeds, epochs)`."""
    return 100 * np.array([row[column].split() for row in rows], float)


def print_table(by_arm):
    """Prints the results of the last epoch."""
    seeds = len(next(iter(by_arm.values())))
    print(f"\nTest accuracy in %, mean ± standard deviation, n = {seeds}")
    titles = ("before sync", "after", "re-estimated", "s/epoch", "in syncs")
    print(f"{'arm, last epoch':16}" + "".join(f"{t:>16}" for t in titles))
    for arm, rows in by_arm.items():
        cells = ""
        for column in ("before_sync", "after_sync", "reestimated"):
            last = curves(rows, column)[:, -1:]
            spread = f"±{last.std(ddof=1):5.2f}" if len(last) > 1 else ""
            cells += f"{last.mean():9.2f} {spread:6}" if last.size else " " * 16
        seconds, share = (
            np.mean([float(row[column]) for row in rows])
            for column in ("seconds_per_epoch", "sync_share")
        )
        print(f"{arm:16}{cells}{seconds:16.2f}{share:16.2%}")


def draw(by_arm, title, path):
    """Draws accuracies over epochs, and what each sync changes."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for arm, rows in by_arm.items():
        accuracy = curves(rows, "after_sync")
        epochs = np.arange(1, accuracy.shape[1] + 1)
        axes[0].plot(epochs, accuracy.T, color=COLORS[arm], lw=0.4, alpha=0.6)
        marker = {} if arm == "adam" else {"marker": "o", "ms": 3.5}
        axes[0].plot(
            epochs,
            accuracy.mean(axis=0),
            color=COLORS[arm],
            label=arm,
            **marker,
        )
    before, after = (
        curves(by_arm["laperm"], column).mean(axis=0)
        for column in ("before_sync", "after_sync")
    )
    # From each sync to the state before the next one.
    axes[1].plot(
        np.repeat(epochs, 2),
        np.stack([before, after], axis=1).ravel(),
        color=COLORS["laperm"],
        lw=0.7,
    )
    axes[1].plot(
        epochs, before, "o", mfc="white", color="tab:red", label="before a sync"
    )
    axes[1].plot(
        epochs, after, "o", color=COLORS["laperm"], label="right after it"
    )
    reestimated = curves(by_arm["laperm"], "reestimated")
    if reestimated.size:
        axes[1].plot(
            epochs,
            reestimated.mean(axis=0),
            "x",
            color="tab:green",
            label="and re-estimated statistics",
        )
    seeds = len(by_arm["laperm"])
    axes[0].set_title(f"{title}, n = {seeds}, and mean; dots are syncs")
    axes[1].set_title("laperm around its syncs, mean")
    for axis in axes:
        axis.set(xlabel="epoch", ylabel="test accuracy in %")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.margins(y=0.1)
        axis.legend()
    figure.savefig(path, dpi=120)


def main():
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="digits")
    parser.add_argument("--data-dir", help="of TensorFlow Datasets, for CIFAR")
    parser.add_argument(
        "--arms",
        type=command_line.names,
        default="adam,laperm,pa-laperm",
        help=f"some of {','.join(COLORS)}",
    )
    parser.add_argument("--seeds", type=command_line.numbers, default="0-2")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument(
        "--out", type=Path, default=command_line.output_folder("laperm")
    )
    arguments = parser.parse_args()
    if "laperm" not in arguments.arms or not COLORS.keys() >= {*arguments.arms}:
        parser.error(
            f"--arms must be some of {','.join(COLORS)}, and include "
            f"laperm, which the figure shows. Received: {arguments.arms}"
        )
    if arguments.model != "digits" and not arguments.data_dir:
        parser.error(f"--model {arguments.model} needs --data-dir")
    arguments.out.mkdir(parents=True, exist_ok=True)
    backend = keras.backend.backend()
    print(f"Keras {keras.__version__} on {backend}")

    path = arguments.out / "laperm.csv"
    rows = read_rows(path)
    done = {tuple(row[name] for name in KEY): row for row in rows}
    wanted = [
        (arguments.model, arm, str(seed), str(arguments.epochs), backend)
        for seed in arguments.seeds
        for arm in arguments.arms
    ]
    missing = [key for key in wanted if key not in done]
    data = load_data(arguments.model, arguments.data_dir) if missing else None
    progress = keras.utils.Progbar(
        len(missing) * arguments.epochs, unit_name="epoch"
    )
    for key in missing:
        done[key] = train(dict(zip(KEY, key, strict=True)), data, progress)
        rows.append(done[key])
        write_rows(path, rows)

    by_arm = {
        arm: [done[k] for k in wanted if k[1] == arm] for arm in arguments.arms
    }
    print_table(by_arm)
    figure = arguments.out / f"laperm-{arguments.model}.png"
    draw(by_arm, arguments.model, figure)
    print(f"\nWrote {figure}")


if __name__ == "__main__":
    main()
