"""The models and trainings of several tests.

A study reads the files of its functions, so that this one is short.
"""

import math

import keras
import numpy as np
from helpers import as_array
from keras import layers

from keras_parewire import rewire_model

X = np.random.default_rng(0).normal(size=(48, 8)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")
ARMS = {"plain": None, "pa": rewire_model}


def make_model():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(2),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # Tracing takes TensorFlow longer than all runs.
        run_eagerly=keras.backend.backend() == "tensorflow",
    )
    return model


def make_small_model():
    return keras.Sequential([keras.Input((3,)), layers.Dense(4)])


def train_model(model, seed):
    history = model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history
    return {"loss": history["loss"][-1], "accuracy": history["accuracy"][-1]}


def instant(model, seed):
    """Numbers for which nothing is trained."""
    total = sum(float(np.sum(as_array(w))) for w in model.trainable_weights)
    return {"loss": seed + math.sin(total)}


def results(study):
    return {
        (row["arm"], row["seed"]): {
            name: row.get(name) for name in ("loss", "accuracy")
        }
        for row in study.rows()
    }
