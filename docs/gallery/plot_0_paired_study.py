"""
Title: Does another initialization help? A study that stops by itself
Author: The keras_parewire authors
Date created: 2026/11/28
Last modified: 2026/11/28
Description: Even out the strengths of neurons, and measure whether it helps.
Accelerator: None
"""

"""
## Introduction

The initial weights of a network are random. By chance, the weights of some
neurons sum up to much more than those of others. This sum is called the
*strength* of a neuron. Preferential-attachment (PA) rewiring, proposed by
[Scabini et al., 2024](https://arxiv.org/abs/2207.08148), permutes the weights
so that the strengths even out. It changes no value.

Whether this helps depends on the network, the data and the training. One run
with each initialization cannot answer that, because accuracies differ by seed
more than by initialization. In this example, you will

- rewire a model and look at the strengths of its neurons;
- compare three initializations of it over many seeds, in a study that stops
  when the answer is clear;
- read the verdict.

This takes about a minute on a CPU.
"""

"""
## Setup
"""

import functools
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from keras_parewire import (
    Centered,
    PARewired,
    plot_strengths,
    reinitialize,
    rewire_model,
)
from keras_parewire.studies import Study

"""
## Prepare the data

We use 1,797 images of handwritten digits, of 8x8 pixels each.
"""

digits = load_digits()
images = (digits.images[..., np.newaxis] / 16).astype("float32")
labels = digits.target.astype("int32")
order = np.random.default_rng(0).permutation(len(images))
x_train, y_train = images[order[:1200]], labels[order[:1200]]
x_test, y_test = images[order[1200:]], labels[order[1200:]]

"""
## Build the model

The model is a small convolutional network without normalization. It needs no
changes for what follows.
"""


def make_model():
    """Returns a compiled model."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(
                16, 3, activation="relu", kernel_initializer="he_normal"
            ),
            layers.Conv2D(
                32,
                3,
                strides=2,
                activation="relu",
                kernel_initializer="he_normal",
            ),
            layers.Flatten(),
            layers.Dense(64, activation="relu", kernel_initializer="he_normal"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.02, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


"""
## Rewire it, and look at the strengths

`rewire_model` rewires every kernel of a built model in place. It knows which
axes of a kernel number the inputs and which the outputs. Its report shows the
variance of the strengths, before and after.
"""

keras.utils.set_random_seed(0)
model = make_model()
before = keras.ops.convert_to_numpy(model.layers[3].kernel).copy()
report = rewire_model(model, seed=0)
print(report)

"""
These are the strengths of the neurons around the first `Dense` layer:
"""

figure, axes = plt.subplots(1, 2, sharex=True, sharey=True, figsize=(9, 3.5))
for kernel, title, ax in zip(
    (before, model.layers[3].kernel), ("before", "after"), axes, strict=True
):
    plot_strengths(kernel, ax=ax)
    ax.set_title(title)
figure.tight_layout()
plt.show()

"""
## Describe the study

A `Study` needs a function that makes the model and one that trains it. The
second one returns the numbers to compare, the most important one first.
"""


def train(model, seed):
    """Trains the model and returns its test accuracy."""
    model.fit(x_train, y_train, batch_size=64, epochs=6, verbose=0)
    _, accuracy = model.evaluate(x_test, y_test, batch_size=600, verbose=0)
    return {"accuracy": accuracy}


"""
The study compares *arms*. The first one is the reference: None stands for the
model as it is. The others are functions that change its initial weights:

- `pa` rewires all kernels;
- `centered` subtracts the means of each kernel's rows and columns, and restores
  its standard deviation. All strengths are then 0.

For each seed, all arms start from the same draw and see the data in the same
order. So the difference between two arms of a seed comes from the
initialization alone.
"""

arms = {
    "plain": None,
    "pa": rewire_model,
    "centered": functools.partial(
        reinitialize, kernel_initializer=Centered("he_normal")
    ),
}
# To be able to resume the study later, give it a folder that stays.
study = Study(make_model, train, arms=arms, path=tempfile.mkdtemp())

"""
## Run it until it is decided

You do not have to know how many seeds it takes. With `until_decided=True`, an
arm gets no more seeds once there is a verdict on it, and the study stops when
all arms have one. The verdicts are made for that: you may look at them after
every seed, and still at most 5 % of studies ever give a wrong one.

`margin` is a difference that is too small to matter, here one point of
accuracy. With it, an arm can also turn out to be *equivalent*. Without it, a
study of two equal arms would almost always use all its seeds.
"""

study.run(seeds=range(150), until_decided=True, margin=0.01, verbose=0)
print(len(study.rows()), "runs")

"""
## Read the verdict

The report has a sentence for each arm. In at least 95 % of studies, the
intervals contain the true mean differences. An arm is

- *higher* or *lower* if the interval leaves out 0;
- *equivalent* if the interval lies within the margin;
- *undecided* otherwise. Then the report says how many more seeds a verdict
  probably takes.
"""

print(study.report(margin=0.01))

"""
Here is the same as a picture. Each dot is the difference of one seed, and the
bar is the interval:
"""

figure = study.plot(margin=0.01)
figure

"""
## Conclusion

The dots show why a single seed says so little: they scatter by more than the
mean difference. And a verdict is about this model, these data and this
training. Other networks have gained or lost by the same initializations.

To rewire a layer's kernel, wrap the initializer that the layer has:
"""

layer = layers.Dense(
    64, activation="relu", kernel_initializer=PARewired("he_normal")
)

"""
For a model that you have not written, call `rewire_model(model)`, or
`reinitialize(model, kernel_initializer=...)`, before you train it.
"""
