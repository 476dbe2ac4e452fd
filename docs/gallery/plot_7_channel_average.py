"""
A start without diversity
=========================

`ChannelAverage` starts all channels of a layer alike. Training by itself keeps
them alike, since all of them get the same gradient. Something else has to make
them different, here dropout.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from keras_parewire import ChannelAverage

digits = load_digits()
x = (digits.data / 16).astype("float32")
y = digits.target.astype("int32")
order = np.random.default_rng(0).permutation(len(x))
train, test = order[:1200], order[1200:]


class Spread(keras.callbacks.Callback):
    """Records how much the neurons of the hidden layer differ."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_epoch_end(self, epoch, logs=None):
        """Records the mean standard deviation over the output neurons."""
        kernel = keras.ops.convert_to_numpy(self.model.layers[0].kernel)
        self.values.append(kernel.std(axis=1).mean())


def run(dropout):
    """Trains with a dropout rate; returns accuracies in % and spreads."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(
                128, activation="relu", kernel_initializer=ChannelAverage()
            ),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(
                10, activation="softmax", kernel_initializer="zeros"
            ),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    spread = Spread()
    history = model.fit(
        x[train],
        y[train],
        epochs=20,
        validation_data=(x[test], y[test]),
        callbacks=[spread],
        verbose=0,
    )
    return 100 * np.array(history.history["val_accuracy"]), spread.values


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
for dropout in (0.0, 0.01, 0.1):
    accuracy, spread = run(dropout)
    epochs = np.arange(1, len(accuracy) + 1)
    left.plot(epochs, accuracy, label=f"dropout {dropout:g}")
    right.plot(epochs, spread, label=f"dropout {dropout:g}")
    print(
        f"dropout {dropout:g}: test accuracy {accuracy[-1]:.1f} %, "
        f"spread {spread[-1]:.2g}"
    )
left.set(xlabel="epoch", ylabel="test accuracy in %")
right.set(xlabel="epoch", ylabel="spread of the neurons' weights")
left.legend()
figure.tight_layout()
