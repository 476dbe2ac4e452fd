"""
Training by permuting weights
=============================

With `LookaheadPermutation`, an optimizer trains as usual. At every sync, each
neuron's incoming weights are replaced with its initial ones, in the order that
the optimizer has found. So the network learns only where to put its initial
values.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from keras_parewire import LookaheadPermutation, reinitialize

digits = load_digits()
x = (digits.data / 16).astype("float32")
y = digits.target.astype("int32")
order = np.random.default_rng(0).permutation(len(x))
train, test = order[:1200], order[1200:]

model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(
            256, activation="relu", kernel_initializer="he_uniform"
        ),
        keras.layers.Dense(
            10, activation="softmax", kernel_initializer="he_uniform"
        ),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])


def curve(callbacks):
    """Trains from the same start and returns the test accuracies in %."""
    reinitialize(model, seed=0)
    keras.utils.set_random_seed(0)
    history = model.fit(
        x[train],
        y[train],
        batch_size=50,  # 24 steps an epoch
        epochs=20,
        validation_data=(x[test], y[test]),
        callbacks=callbacks,
        verbose=0,
    )
    return 100 * np.array(history.history["val_accuracy"])


adam = curve([])
permutation = LookaheadPermutation(sync_period=24)
permuted = curve([permutation])
print("The weights are a permutation of the initial ones:", end=" ")
print(permutation.is_synced())

# %%
# Test accuracy after each epoch, which here ends with a sync; one seed.

figure, ax = plt.subplots(figsize=(7, 3.8))
epochs = np.arange(1, len(adam) + 1)
ax.plot(epochs, adam, label="Adam")
ax.plot(epochs, permuted, label="Lookahead Permutation of Adam")
ax.set(xlabel="epoch", ylabel="test accuracy in %", xticks=epochs[1::2])
ax.legend()
figure.tight_layout()

# %%
# The values of the first layer have not changed, only their places.

kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
reinitialize(model, seed=0)
start = keras.ops.convert_to_numpy(model.layers[0].kernel)
np.testing.assert_array_equal(np.sort(kernel, 0), np.sort(start, 0))
moved = 100 * (kernel != start).mean()
print(f"{moved:.0f} % of its weights have another value in their place.")
