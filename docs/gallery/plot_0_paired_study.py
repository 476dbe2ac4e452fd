"""
Does another initialization help? A study that stops by itself
==============================================================

The initial weights of a network are random, and by chance the weights of some
neurons sum up to much more than those of others. This sum is the *strength* of
a neuron. Preferential-attachment rewiring (`Scabini et al., 2024
<https://arxiv.org/abs/2207.08148>`__) rearranges the weights, without changing
a value, so that no neuron starts much stronger than the others.

Whether that helps depends on the network, the data and the training. Two runs
cannot tell, because accuracies differ more by seed than by initialization. So
this example trains pairs that start from the same draw, until there is a
verdict. It takes about a minute on a CPU.
"""

import functools
import tempfile

import keras
import matplotlib.pyplot as plt
from keras import layers
from sklearn.datasets import load_digits

from keras_parewire import Centered, PARewired, plot_strengths, reinitialize
from keras_parewire.studies import Study

# %%
# The model and its training
# --------------------------
#
# A study takes a function that makes a model, and one that trains it and
# returns the numbers to compare. The images are 8x8 pixels of digits.

x, y = load_digits(return_X_y=True)
x = x.reshape(-1, 8, 8, 1) / 16


def make_model():
    """Returns a small convolutional network."""
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for _ in range(3):
        model.add(layers.Conv2D(32, 3, activation="relu", padding="same"))
    model.add(layers.Flatten())
    model.add(layers.Dense(10, activation="softmax"))
    return model


def train(model, seed):
    """Trains the model and returns its test accuracy."""
    loss = "sparse_categorical_crossentropy"
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x[:1200], y[:1200], epochs=2, verbose=0)
    return {"accuracy": model.evaluate(x[1200:], y[1200:], verbose=0)[1]}


# %%
# The arms
# --------
#
# The study compares *arms*, functions that change the initial weights. The
# first one is the reference. Here all draw the kernels of the model anew, from
# the same values for each seed:
#
# - `plain` keeps what `he_normal` draws;
# - `pa` rewires it;
# - `centered` subtracts the means of rows and columns, and restores the
#   standard deviation. All strengths are then 0.

initializers = {
    "plain": "he_normal",
    "pa": PARewired("he_normal"),
    "centered": Centered("he_normal"),
}
arms = {
    name: functools.partial(reinitialize, kernel_initializer=initializer)
    for name, initializer in initializers.items()
}

# %%
# This is what they do to the strengths of the neurons around the third
# convolution:

figure, axes = plt.subplots(1, 3, sharex=True, sharey=True, figsize=(9, 3))
for (name, arm), ax in zip(arms.items(), axes, strict=True):
    model = make_model()
    arm(model, seed=0)
    plot_strengths(model.layers[2].kernel, ax=ax)
    ax.set_title(name)
figure.tight_layout()
plt.show()

# %%
# Run until it is decided
# -----------------------
#
# `margin` is a difference that is too small to matter, here two points
# of accuracy. With it, an arm can also turn out to be *equivalent*. An arm that
# has a verdict gets no more seeds. The verdicts are made for that: although
# the study looks after every seed, at most 5 % of studies give a wrong one.

study = Study(
    make_model,
    train,
    arms=arms,
    path=tempfile.mkdtemp(),  # A folder that stays, to resume the study later.
    config={"data": "digits, 1200 of 1797", "epochs": 2},
)
study.run(seeds=range(50), until_decided=True, margin=0.02, verbose=0)
print(study.report(margin=0.02))

# %%
# In the plot, each dot is the difference of one seed, and the bar is the
# interval of their mean. The dots show why a single seed says so little.

figure = study.plot(margin=0.02)
figure

# %%
# A verdict is about this model, these data and this training: other networks
# have gained or lost by the same initializations. To use one, give it to the
# layers, as in `Dense(64, kernel_initializer=PARewired("he_normal"))`, or call
# `reinitialize` on a model that you have not written.
