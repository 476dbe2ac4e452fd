r"""Trains by re-ordering initial weights (LaPerm), against plain Adam.

    python examples/laperm.py
    python examples/laperm.py --model conv2 --arms Adam LaPerm --seeds 1 \
        --epochs 3 --data-dir DIR

Three arms start from the same draw for the same seed: Adam, Adam with a sync to
a permutation of the initial weights once an epoch (`LookaheadPermutation`), and
the same from a PA-rewired start. Test accuracies are taken right before and
after each sync; nothing is selected by them. By default it takes scikit-learn's
digits, in about two minutes on two cores. `conv2` and `conv4` are those of
Qiu and Suda (2020) on CIFAR-10, as TensorFlow Datasets has prepared it in DIR.

Each finished run is a row of `laperm.csv`, and is not repeated the next time.

What differs from the published runs: pixels are scaled to [0, 1] (their script
trains on 0 to 255), and where the dropout goes is our choice, since it could
not be obtained: 0.3 after each pooling, 0.5 after each hidden Dense layer. The
hidden Dense layers are followed by ReLU and normalization, as convolutions are.
"""

import argparse
import csv
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib.pyplot as plt
import numpy as np
from cifar10.data import load_train_and_test
from keras import layers, ops
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_parewire import LookaheadPermutation, PARewired

BATCH = 50
ARMS = ("Adam", "LaPerm", "PARewired + LaPerm")
COLORS = dict(zip(ARMS, ("tab:gray", "tab:orange", "tab:blue"), strict=True))
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
    "accuracy",
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
    """Builds and compiles a network: the same draw for the same seed."""
    keras.utils.set_random_seed(seed)
    blocks, units = MODELS[name]

    def options(l2=1e-4):
        init = "he_uniform"
        return {
            "kernel_initializer": PARewired(init) if "PA" in arm else init,
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
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


class Watch(keras.callbacks.Callback):
    """Takes accuracies and times at the end of epochs, around the sync.

    It goes before what it watches in the list of callbacks, and its `after`
    behind.
    """

    def __init__(self, test, progress):
        super().__init__()
        self.images, self.labels = test
        self.progress = progress
        self.before_sync, self.accuracy = [], []
        self.train_seconds = self.sync_seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Notes what is there before a sync."""
        if batch + 1 < self.params["steps"]:
            return
        # The step is done only when its result is at hand.
        ops.convert_to_numpy(self.model.optimizer.iterations)
        self.train_seconds += time.perf_counter() - self.start
        self.before_sync.append(self.measure())
        self.start = time.perf_counter()

    def after(self, batch, logs=None):
        """Notes what is there after it."""
        if batch + 1 < self.params["steps"]:
            return
        self.sync_seconds += time.perf_counter() - self.start
        self.accuracy.append(self.measure())
        self.progress.add(1)

    def measure(self):
        """The test accuracy, from calls of the model: `fit` is under way."""
        hits = 0
        for i in range(0, len(self.images), 500):
            predicted = self.model(self.images[i : i + 500], training=False)
            labels = self.labels[i : i + 500]
            hits += (ops.convert_to_numpy(predicted).argmax(1) == labels).sum()
        return hits / len(self.images)


def train(row, data, progress):
    """Makes one run; returns the row with its results."""
    (images, labels), test = data
    model = make_model(row["model"], row["arm"], int(row["seed"]))
    period = -(-len(images) // BATCH)  # The steps of an epoch.
    watch = Watch(test, progress)
    callbacks = [
        keras.callbacks.LearningRateScheduler(
            lambda epoch: 1e-3 * 0.6 ** (epoch // 10)
        ),
        watch,
        keras.callbacks.LambdaCallback(on_train_batch_end=watch.after),
    ]
    if "LaPerm" in row["arm"]:
        callbacks.insert(2, LookaheadPermutation(period))
    epochs = int(row["epochs"])
    model.fit(images, labels, BATCH, epochs, verbose=0, callbacks=callbacks)
    seconds = watch.train_seconds + watch.sync_seconds
    return row | {
        "sync_period": period if "LaPerm" in row["arm"] else "",
        "seconds_per_epoch": f"{seconds / epochs:.3f}",
        "sync_share": f"{watch.sync_seconds / seconds:.5f}",
        "before_sync": " ".join(f"{x:.4f}" for x in watch.before_sync),
        "accuracy": " ".join(f"{x:.4f}" for x in watch.accuracy),
    }


def read_rows(path):
    """Returns the rows of the runs that are done."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    """Writes all rows, so that a run that is cut off leaves no half of one."""
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
    """Prints what the runs ended with."""
    seeds = len(next(iter(by_arm.values())))
    print(f"\nTest accuracy in %, mean ± standard deviation, n = {seeds}")
    titles = ("before sync", "after", "s/epoch", "in syncs")
    print(f"{'arm, last epoch':20}" + "".join(f"{t:>16}" for t in titles))
    for arm, rows in by_arm.items():
        cells = ""
        for column in ("before_sync", "accuracy"):
            last = curves(rows, column)[:, -1]
            spread = f"±{last.std(ddof=1):5.2f}" if len(last) > 1 else ""
            cells += f"{last.mean():9.2f} {spread:6}"
        seconds, share = (
            np.mean([float(row[column]) for row in rows])
            for column in ("seconds_per_epoch", "sync_share")
        )
        print(f"{arm:20}{cells}{seconds:16.2f}{share:16.2%}")


def draw(by_arm, title, path):
    """Draws accuracies over epochs, and what each sync did to them."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for arm, rows in by_arm.items():
        accuracy = curves(rows, "accuracy")
        epochs = np.arange(1, accuracy.shape[1] + 1)
        axes[0].plot(epochs, accuracy.T, color=COLORS[arm], lw=0.4, alpha=0.6)
        marker = {} if arm == "Adam" else {"marker": "o", "ms": 3.5}
        axes[0].plot(
            epochs,
            accuracy.mean(axis=0),
            color=COLORS[arm],
            label=arm,
            **marker,
        )
    before = curves(by_arm["LaPerm"], "before_sync").mean(axis=0)
    after = curves(by_arm["LaPerm"], "accuracy").mean(axis=0)
    # From each sync to the state before the next one.
    axes[1].plot(
        np.repeat(epochs, 2),
        np.stack([before, after], axis=1).ravel(),
        color=COLORS["LaPerm"],
        lw=0.7,
    )
    axes[1].plot(
        epochs, before, "o", mfc="white", color="tab:red", label="before a sync"
    )
    axes[1].plot(
        epochs, after, "o", color=COLORS["LaPerm"], label="right after it"
    )
    seeds = len(by_arm["LaPerm"])
    axes[0].set_title(f"{title}, n = {seeds}, and mean; dots are syncs")
    axes[1].set_title("LaPerm around its syncs, mean")
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
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results"
    )
    arguments = parser.parse_args()
    if "LaPerm" not in arguments.arms:
        parser.error(
            "--arms must have LaPerm, which the picture is about. Received: "
            f"{' '.join(arguments.arms)}"
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
        for seed in range(arguments.seeds)
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
    picture = arguments.out / f"laperm-{arguments.model}.png"
    draw(by_arm, arguments.model, picture)
    print(f"\nDrew {picture}")


if __name__ == "__main__":
    main()
