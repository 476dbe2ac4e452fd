"""Does rewiring help this model? A paired study on scikit-learn's digits.

    python examples/own_model.py

Takes 1 to 3 minutes on two cores: some 9 to 15 seeds, each with two runs.
"""

import argparse

import keras
from command_line import numbers, output_folder
from keras import layers
from sklearn.datasets import load_digits

from keras_parewire import rewire_model
from keras_parewire.studies import Study

x, y = load_digits(return_X_y=True)
x = x.reshape(-1, 8, 8, 1) / 16


def make_model():
    """Returns a small convolutional network."""
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for _ in range(4):
        model.add(layers.Conv2D(32, 3, activation="relu", padding="same"))
    model.add(layers.Flatten())
    model.add(layers.Dense(10, activation="softmax"))
    return model


def train(model, seed):
    """Trains the model; returns the numbers to compare."""
    loss = "sparse_categorical_crossentropy"
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x[:1200], y[:1200], epochs=3, verbose=0)
    return {"accuracy": model.evaluate(x[1200:], y[1200:], verbose=0)[1]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=numbers, default="0-49")
    parser.add_argument("--out", default=output_folder("own_model"))
    parser.add_argument("--ray", action="store_true")
    args = parser.parse_args()
    arms = {"plain": None, "pa": rewire_model}
    config = {"data": "digits, 1200 of 1797", "epochs": 3}
    study = Study(make_model, train, arms=arms, path=args.out, config=config)
    # Less than two points do not matter here.
    study.run(args.seeds, until_decided=True, margin=0.02, ray=args.ray)
    print(study.report(margin=0.02))
