"""Does rewiring help this model? A paired study on scikit-learn's digits."""

import argparse

import keras
from command_line import numbers, output_folder
from sklearn.datasets import load_digits

from keras_parewire import rewire_model
from keras_parewire.studies import Study

x, y = load_digits(return_X_y=True)


def make_model():
    """Returns a compiled model."""
    dense = [keras.layers.Dense(64, activation="tanh") for _ in range(3)]
    layers = [keras.Input((64,)), *dense, keras.layers.Dense(10, "softmax")]
    model = keras.Sequential(layers)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(model, seed):
    """Trains the model; returns the numbers to compare."""
    model.fit(x[:1200] / 16, y[:1200], epochs=5, verbose=0)
    found = model.evaluate(x[1200:] / 16, y[1200:], verbose=0)
    return {"val_accuracy": found[1]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=numbers, default="0-39")
    parser.add_argument("--out", default=output_folder("own_model"))
    parser.add_argument("--ray", action="store_true")
    args = parser.parse_args()
    arms = {"plain": None, "pa": rewire_model}
    study = Study(make_model, train, arms=arms, path=args.out)
    study.run(args.seeds, until_decided=True, margin=0.01, ray=args.ray)
    print(study.report(margin=0.01))  # Less than one point does not matter.
