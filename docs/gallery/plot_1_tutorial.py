"""
Tutorial: rewire, train, compare, save
======================================

We train a small convolutional network with and without preferential-attachment
(PA) rewiring, compare the two fairly, and save the result. It takes less than a
minute on a laptop. All you need to know is Keras.
"""

# %%
# Wrap any initializer
# --------------------
# `PARewired` takes the values that another initializer draws and permutes them.
# The *strength* of a neuron is the sum of its weights; after rewiring, the
# strengths vary less.

import keras
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from sklearn.datasets import load_digits

import keras_parewire
from keras_parewire import PARewired, plot_strengths, strength_variance

plain = keras.initializers.HeNormal(seed=0)((256, 128))
rewired = PARewired("he_normal", seed=0)((256, 128))

figure, axes = plt.subplots(1, 2, sharex=True, sharey=True, figsize=(9, 3.5))
for kernel, title, ax in zip(
    (plain, rewired), ("plain", "rewired"), axes, strict=True
):
    plot_strengths(kernel, ax=ax)
    variance = float(strength_variance(kernel))
    ax.set_title(f"{title}: strength variance {variance:.2f}")
figure.tight_layout()

# %%
# The values are the same, bit for bit. Only their places differ.

np.testing.assert_array_equal(np.sort(plain, None), np.sort(rewired, None))

# %%
# Real data
# ---------
# 1797 images of handwritten digits, 8x8 pixels each.

digits = load_digits()
images = (digits.images[..., np.newaxis] / 16).astype("float32")
labels = digits.target.astype("int32")
order = np.random.default_rng(0).permutation(len(images))
train, test = order[:1200], order[1200:]

# %%
# One model, two arms
# -------------------
# `rewire_model` rewires a model that is already built, and `reinitialize` draws
# its weights again without compiling it again. Both arms of a seed start from
# the same draw and see the data in the same order. So all differences between
# them come from the places of the weights.

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(
    keras.optimizers.SGD(0.05, momentum=0.9),
    "sparse_categorical_crossentropy",
    metrics=["accuracy"],
)


def accuracies(seed, rewire):
    """Trains one arm and returns its test accuracy after each epoch, in %."""
    keras_parewire.reinitialize(model, seed=seed)
    if rewire:
        keras_parewire.rewire_model(model, seed=seed)
    keras.utils.set_random_seed(seed)
    history = model.fit(
        images[train],
        labels[train],
        batch_size=64,
        epochs=4,
        validation_data=(images[test], labels[test]),
        verbose=0,
    )
    return 100 * np.array(history.history["val_accuracy"])


seeds = range(6)
plain = np.array([accuracies(seed, rewire=False) for seed in seeds])
rewired = np.array([accuracies(seed, rewire=True) for seed in seeds])

# %%
# Compare within each seed
# ------------------------
# A gray line is the difference for one seed, in percentage points. The band is
# the 95 % paired t interval of their mean, which is valid because the number of
# seeds was fixed before anyone looked. Where it contains zero, no difference
# was seen. Six seeds are few: for a question that matters, let a `Study` run
# until there is a verdict.

differences = rewired - plain
epochs = np.arange(1, differences.shape[1] + 1)
low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)

figure, ax = plt.subplots(figsize=(7, 3.8))
ax.axhline(0, color="black", linewidth=0.8)
ax.plot(epochs, differences.T, color="tab:gray", linewidth=0.7)
ax.plot(epochs, differences.mean(0), color="tab:blue", marker="o")
ax.fill_between(epochs, low, high, color="tab:blue", alpha=0.2)
ax.set(
    xlabel="epoch",
    ylabel="rewired - plain (points)",
    title="Differences in test accuracy, paired by seed",
    xticks=epochs,
)
figure.tight_layout()

for epoch, mean, lower, upper in zip(
    epochs, differences.mean(0), low, high, strict=True
):
    print(f"epoch {epoch}: {mean:+.2f} points [{lower:+.2f}, {upper:+.2f}]")

# %%
# Save and load
# -------------
# The saved file of a model names its initializers. So if one of them is a
# `PARewired`, import the package before you load the model.

saved = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(10, kernel_initializer=PARewired("he_normal")),
    ]
)
saved.save("model.keras")
loaded = keras.saving.load_model("model.keras")
np.testing.assert_array_equal(saved.get_weights()[0], loaded.get_weights()[0])
print(type(loaded.layers[-1].kernel_initializer).__name__)
