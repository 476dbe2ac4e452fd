"""Trains ConstNet, in which all channels of a layer start alike.

    python examples/constnet.py
    python examples/constnet.py --dropout 0

ConstNet (Blumenfeld, Gilboa and Soudry, 2020) is a wide residual network. Its
first layer and the skip connections that change the width average their input
channels (`ChannelAverage`), and all its other kernels start at zero. Only noise
in the training can make the channels differ, here dropout at a rate of 0.01.
Without noise they stay alike on a deterministic backend, as on a CPU, and the
network is in effect one channel wide.

The script plots how alike the filters of each layer are after each epoch. By
default it trains a small network on scikit-learn's digits, in under a minute on
two cores. For the authors' network, use `--depth 16 --widen 10 --epochs 300
--data-dir DIR`, with CIFAR-10 prepared by TensorFlow Datasets in DIR.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import command_line
import keras
import matplotlib.pyplot as plt
import numpy as np
from cifar10.data import load_train_and_test
from keras import layers, ops
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_parewire import ChannelAverage


def constnet(
    shape,
    classes,
    depth=16,
    widen=10,
    dropout=0.01,
    l2=2.5e-4,
    augment=False,
):
    """Builds ConstNet for images of `shape`, `(height, width, channels)`.

    Args:
        shape: Shape of an image.
        classes: Number of classes.
        depth: 3n + 4, for n blocks in each of the three stages.
        widen: Factor by which the widths of the stages exceed 16, 32 and 64.
        dropout: Rate in each residual branch; it breaks the symmetry.
        l2: Regularization of every weight, half of the authors' weight decay.
        augment: Whether to flip images and shift them by up to an eighth.
    """
    if (depth - 4) % 3:
        raise ValueError(f"`depth` must be 3n + 4. Received: depth={depth}")
    decay = keras.regularizers.L2(l2)

    def conv(x, width, window, strides, init):
        if window == 3:
            # With a stride of 2, "same" would pad one side only.
            x = layers.ZeroPadding2D(1)(x)
        return layers.Conv2D(
            width,
            window,
            strides,
            use_bias=False,
            kernel_initializer=init,
            kernel_regularizer=decay,
        )(x)

    def block(x, width, strides):
        active = layers.BatchNormalization(
            momentum=0.9,
            epsilon=1e-5,
            beta_regularizer=decay,
            gamma_regularizer=decay,
        )(x)
        active = layers.ReLU()(active)
        branch = conv(active, width, 3, strides, "zeros")
        if dropout:
            branch = layers.Dropout(dropout)(branch)
        if x.shape[-1] != width:
            # The authors' ReLU works in place, so the skip starts after it.
            x = conv(active, width, 1, strides, ChannelAverage())
        return layers.Add()([x, branch])

    inputs = x = keras.Input(shape)
    if augment:
        x = layers.RandomFlip("horizontal")(x)
        x = layers.RandomTranslation(
            1 / 8, 1 / 8, fill_mode="reflect", interpolation="nearest"
        )(x)
    x = conv(x, 16, 3, 1, ChannelAverage())
    for stage in range(3):
        for number in range((depth - 4) // 3):
            strides = 2 if stage and not number else 1
            x = block(x, 16 * widen * 2**stage, strides)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    outputs = layers.Dense(
        classes,
        "softmax",
        kernel_initializer="zeros",
        kernel_regularizer=decay,
        bias_regularizer=decay,
    )(x)
    return keras.Model(inputs, outputs)


def correlation(kernel, axis):
    """Returns the mean Pearson correlation between different filters.

    Args:
        kernel: Array of shape `(height, width, inputs, outputs)`.
        axis: -1 for the filters of output channels, -2 for those of input
            channels.
    """
    filters = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
    if len(filters) == 1:
        return 1.0
    centered = filters - filters.mean(axis=1, keepdims=True, dtype="float64")
    centered[np.ptp(filters, axis=1) == 0] = 0  # Removes rounding errors.
    norms = np.linalg.norm(centered, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = centered @ centered.T / np.outer(norms, norms)
    # Constant filters have no correlation; they count as alike.
    pairs = np.nan_to_num(pairs, nan=1.0)
    return float(pairs[~np.eye(len(pairs), dtype=bool)].mean())


def convolutions(model):
    """Returns the convolutional layers, from first to last."""
    return [part for part in model.layers if isinstance(part, layers.Conv2D)]


def spread(model):
    """Returns the largest difference between the channels of any layer."""
    return max(
        float(np.ptp(ops.convert_to_numpy(part.kernel), axis=(2, 3)).max())
        for part in convolutions(model)[1:]
    )


class Correlations(keras.callbacks.Callback):
    """Measures the correlations between filters after each epoch."""

    def __init__(self):
        super().__init__()
        self.measured = []

    def on_train_begin(self, logs=None):
        """Measures the initial weights."""
        self.on_epoch_end(-1)

    def on_epoch_end(self, epoch, logs=None):
        """Measures all convolutions, on both sides."""
        kernels = [
            ops.convert_to_numpy(part.kernel)
            for part in convolutions(self.model)
        ]
        self.measured.append(
            [
                [correlation(kernel, axis) for axis in (-1, -2)]
                for kernel in kernels
            ]
        )


def load_data(folder):
    """Returns normalized training and test images, then their labels."""
    if folder:
        (images, labels), (test_images, test_labels) = load_train_and_test(
            folder
        )
        mean, deviation = images.mean((0, 1, 2)), images.std((0, 1, 2))
        images, test_images = (
            ((part - mean) / deviation).astype("float32")
            for part in (images, test_images)
        )
        return images, test_images, labels, test_labels
    digits = load_digits()
    images = digits.images.astype("float32")[..., np.newaxis] / 8 - 1
    images = images.repeat(2, axis=1).repeat(2, axis=2)
    return train_test_split(
        images, digits.target, test_size=0.3, random_state=0
    )


def learning_rate(epoch, epochs):
    """Returns the rate of the authors' long schedule.

    It starts at 0.03 and drops to a fifth three times. A shorter training drops
    it after the same fractions of its epochs.
    """
    drops = [epochs - round(epochs * left / 300) for left in (140, 80, 40)]
    return 0.03 * 0.2 ** sum(epoch >= drop for drop in drops)


def train(arguments):
    """Trains a network; returns its history and correlations."""
    keras.utils.set_random_seed(arguments.seed)
    images, test_images, labels, test_labels = load_data(arguments.data_dir)
    model = constnet(
        images.shape[1:],
        10,
        arguments.depth,
        arguments.widen,
        arguments.dropout,
        augment=bool(arguments.data_dir),
    )
    print(f"ConstNet-{arguments.depth}-{arguments.widen}", end=": ")
    print(f"{model.count_params():,} parameters, dropout {arguments.dropout}")
    model.compile(
        keras.optimizers.SGD(0.03, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    correlations = Correlations()
    callbacks = [correlations]
    batch = 32
    if arguments.data_dir:
        batch = 128
        callbacks.append(
            keras.callbacks.LearningRateScheduler(
                lambda epoch: learning_rate(epoch, arguments.epochs)
            )
        )
    history = model.fit(
        images,
        labels,
        batch,
        arguments.epochs,
        validation_data=(test_images, test_labels),
        callbacks=callbacks,
        verbose=2,
    ).history
    print(f"Channels differ by up to {spread(model):.2g}.")
    # By layer, epoch and side.
    return history, np.array(correlations.measured).swapaxes(0, 1)


def draw(history, measured, title, path):
    """Plots the correlations of each layer, and the accuracies."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    colors = plt.cm.viridis(np.linspace(0, 0.9, len(measured)))
    for side, axis in enumerate(axes[:2]):
        for number, (layer, color) in enumerate(
            zip(measured, colors, strict=True), start=1
        ):
            axis.plot(layer[:, side], color=color, label=number)
        axis.set(
            title=("by output channel", "by input channel")[side],
            xlabel="epoch",
            ylabel="mean correlation between filters",
            ylim=(-0.15, 1.05),
        )
    axes[1].legend(title="convolution", fontsize="small", ncols=2)
    epochs = np.arange(1, len(history["loss"]) + 1)
    for name, label in (("accuracy", "training"), ("val_accuracy", "test")):
        axes[2].plot(epochs, 100 * np.array(history[name]), label=label)
    axes[2].set(
        title=title, xlabel="epoch", ylabel="accuracy in %", ylim=(0, 100)
    )
    axes[2].legend()
    figure.savefig(path, dpi=120)


def main():
    """Trains and plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="of TensorFlow Datasets, for CIFAR")
    parser.add_argument("--depth", type=int, default=7)
    parser.add_argument("--widen", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=command_line.output_folder("constnet")
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")
    history, measured = train(arguments)
    path = arguments.out / f"constnet-dropout-{arguments.dropout:g}.png"
    data = "CIFAR-10" if arguments.data_dir else "digits"
    title = f"ConstNet-{arguments.depth}-{arguments.widen}, {data}, "
    title += f"dropout {arguments.dropout:g}"
    draw(history, measured, title, path)
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()
