"""Trains a small network on scikit-learn's digits, plain and PA-rewired.

    python examples/quickstart.py

For each seed, both networks start from the same draw of the base and see the
same data in the same order; only the positions of the weights differ. Prints
and plots the strength variances and accuracies, saves a rewired model, loads it
in a new process, and says what was seen. Takes 20 to 90 seconds on two cores.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib.pyplot as plt
import numpy as np
from command_line import numbers, output_folder
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_parewire import PARewired, strength_variance, strengths
from keras_parewire.studies import compare

BASE = "orthogonal"
ARMS = {"plain": lambda: BASE, "rewired": lambda: PARewired(BASE)}
COLORS = {"plain": "tab:gray", "rewired": "tab:blue"}


def load_data():
    """Returns train and test images of shape (n, 8, 8, 1), and labels."""
    digits = load_digits()
    images = (digits.images / 16.0).astype("float32")[..., np.newaxis]
    return train_test_split(
        images, digits.target, test_size=0.3, random_state=0
    )


def make_model(arm, seed):
    """Builds the network of one arm; all arms of a seed share their draw."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(
                32, 3, activation="relu", kernel_initializer=ARMS[arm]()
            ),
            layers.Conv2D(
                64,
                3,
                strides=2,
                activation="relu",
                kernel_initializer=ARMS[arm](),
            ),
            layers.Flatten(),
            layers.Dense(
                128, activation="relu", kernel_initializer=ARMS[arm]()
            ),
            layers.Dense(
                10, activation="softmax", kernel_initializer=ARMS[arm]()
            ),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def kernels(model):
    """Returns the kernels, keyed by layer and shape."""
    return {
        layer.name.split("_")[0] + str(tuple(layer.kernel.shape)): layer.kernel
        for layer in model.layers
        if hasattr(layer, "kernel")
    }


def train(model, data, epochs, after_epoch):
    """Trains a model and returns its test accuracy after each epoch."""
    train_images, test_images, train_labels, test_labels = data
    history = model.fit(
        train_images,
        train_labels,
        batch_size=64,
        epochs=epochs,
        validation_data=(test_images, test_labels),
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: after_epoch()
            )
        ],
        verbose=0,
    )
    return history.history["val_accuracy"]


def print_tables(seed, variances, accuracies):
    """Prints the strength variances of one seed and the accuracies of all."""
    print(f"\nStrength variance, seed {seed}")
    print(f"{'kernel':24}{'plain':>12}{'rewired':>12}")
    for name in variances["plain"]:
        row = "".join(f"{variances[arm][name]:12.5f}" for arm in ARMS)
        print(f"{name:24}{row}")
    seeds = accuracies["plain"].shape[0]
    print(f"\nTest accuracy in %, mean ± standard deviation of {seeds} seeds")
    print(f"{'epoch':8}{'plain':>16}{'rewired':>16}{'difference':>16}")
    columns = [
        *accuracies.values(),
        accuracies["rewired"] - accuracies["plain"],
    ]
    for epoch in range(accuracies["plain"].shape[1]):
        cells = "".join(
            f"{100 * column[:, epoch].mean():9.2f} "
            f"±{100 * column[:, epoch].std(ddof=1):5.2f}"
            for column in columns
        )
        print(f"{epoch + 1:<8}{cells}")


def draw(dense_kernels, accuracies, path):
    """Plots one layer's strengths and the learning curves."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for side, axis in zip(("inputs", "outputs"), axes, strict=False):
        values = {
            arm: getattr(strengths(kernel), side)
            for arm, kernel in dense_kernels.items()
        }
        bins = np.histogram_bin_edges(np.concatenate([*values.values()]), 40)
        for arm, column in values.items():
            axis.hist(column, bins, color=COLORS[arm], alpha=0.7, label=arm)
        shape = tuple(dense_kernels["plain"].shape)
        axis.set(
            title=f"Dense {shape}: {side}",
            xlabel=f"strength of {side[:-1]} neuron",
            ylabel="neurons",
        )
    for arm, curves in accuracies.items():
        epochs = np.arange(1, curves.shape[1] + 1)
        axes[2].plot(epochs, 100 * curves.T, color=COLORS[arm], lw=0.5)
        axes[2].plot(
            epochs, 100 * curves.mean(axis=0), color=COLORS[arm], label=arm
        )
    axes[2].set(
        title=f"Test accuracy, {len(curves)} seeds and their mean",
        xlabel="epoch",
        ylabel="accuracy in %",
    )
    for axis in axes:
        axis.legend()
    figure.savefig(path, dpi=120)


def conclusion(seeds, variances, accuracies):
    """Returns what the tables show, and what they do not."""
    factors = [
        variances["plain"][name] / variances["rewired"][name]
        for name in variances["plain"]
    ]
    last = {
        arm: {"accuracy": dict(zip(seeds, 100 * curves[:, -1], strict=True))}
        for arm, curves in accuracies.items()
    }
    [found] = compare(last)
    verdict = f"By {found.n} seeds, it is {found.verdict}."
    if found.verdict == "undecided":
        verdict = (
            f"The {found.n} seeds do not tell whether that is more than chance;"
            " own_model.py trains as many as it takes."
        )
    return (
        f"Rewiring lowered the strength variances {min(factors):.0f} to "
        f"{max(factors):.0f} times. After the last epoch, the test accuracy of "
        f"the rewired networks differs by {found.difference:+.2f} points from "
        f"that of the plain ones. {verdict}"
    )


def save(model, images, folder):
    """Saves a model and its predictions."""
    model.save(folder / "model.keras")
    np.savez(
        folder / "predictions.npz",
        images=images,
        predictions=model.predict(images, verbose=0),
    )


def load_and_compare(folder):
    """Loads a saved model and compares its predictions with the saved ones."""
    # Importing keras_parewire, as above, registers the initializers.
    model = keras.saving.load_model(folder / "model.keras")
    saved = np.load(folder / "predictions.npz")
    predictions = model.predict(saved["images"], verbose=0)
    np.testing.assert_allclose(predictions, saved["predictions"], atol=1e-5)
    print(f"Loaded {folder / 'model.keras'}: its predictions agree.")


def main():
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=numbers, default="0-4", help="two or more, as in 0-4"
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=output_folder("quickstart"))
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        return load_and_compare(arguments.load)
    if len(arguments.seeds) < 2:
        parser.error("--seeds must be two or more, for a standard deviation")
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")

    data = load_data()
    progress = keras.utils.Progbar(
        len(arguments.seeds) * len(ARMS) * arguments.epochs, unit_name="epoch"
    )
    accuracies = {arm: [] for arm in ARMS}
    variances, dense_kernels = {}, {}
    for seed in arguments.seeds:
        for arm in ARMS:
            model = make_model(arm, seed)
            if seed == arguments.seeds[0]:
                named = kernels(model)
                variances[arm] = {
                    name: strength_variance(kernel)
                    for name, kernel in named.items()
                }
                dense_kernels[arm] = model.layers[-2].kernel.numpy()
            curve = train(
                model, data, arguments.epochs, lambda: progress.add(1)
            )
            accuracies[arm].append(curve)
    accuracies = {arm: np.array(curves) for arm, curves in accuracies.items()}

    print_tables(arguments.seeds[0], variances, accuracies)
    draw(dense_kernels, accuracies, arguments.out / "quickstart.png")
    print(f"\nDrew {arguments.out / 'quickstart.png'}")
    save(model, data[1], arguments.out)
    subprocess.run(
        [sys.executable, __file__, "--load", arguments.out], check=True
    )
    print(f"\n{conclusion(arguments.seeds, variances, accuracies)}")


if __name__ == "__main__":
    main()
