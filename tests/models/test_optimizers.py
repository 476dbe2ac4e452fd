"""Optimizers that start from copies of the weights, and may go back to them."""

import keras
import numpy as np
import pytest
from helpers import as_array, assert_same
from keras import layers

from keras_parewire import reinitialize, rewire_model

X = np.random.default_rng(0).random((16, 8), np.float32)
Y = np.random.default_rng(1).random((16, 4), np.float32)


def make_model(name="schedule_free"):
    # Two layers of equal weights, whose copies must not be mixed up.
    parts = [layers.LayerNormalization(name=f"norm{i}") for i in range(2)]
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, "tanh", name="first"),
            *parts,
            layers.Dense(4, name="last"),
        ]
    )
    free = keras.optimizers.ScheduleFreeAdamW(0.01)
    optimizers = {
        "schedule_free": free,
        "scaled": keras.optimizers.LossScaleOptimizer(free),
        "adam": keras.optimizers.Adam(0.01, use_ema=True),
    }
    model.compile(optimizers[name], "mse")
    return model


def train(model, epochs=1):
    model.fit(X, Y, 16, epochs, verbose=0, shuffle=False)


def redraw(model):
    train(model, epochs=5)
    reinitialize(model, seed=1)


def redraw_partly(model):
    model.optimizer.build(model.trainable_variables)
    reinitialize(model, seed=1, layers=["last"])


def rewire(model):
    model.optimizer.build(model.trainable_variables)
    rewire_model(model, seed=1)


@pytest.mark.parametrize(
    ("optimizer", "change"),
    [
        ("schedule_free", redraw),
        ("schedule_free", redraw_partly),
        ("schedule_free", rewire),
        ("scaled", redraw),
        ("scaled", rewire),
        ("adam", redraw),
    ],
)
def test_training_starts_from_the_new_weights(optimizer, change):
    model, new = make_model(optimizer), make_model(optimizer)
    change(model)
    new.set_weights(model.get_weights())
    # TensorFlow's `fit` would build it in a graph, where it copies zeros.
    new.optimizer.build(new.trainable_variables)
    for trained in (model, new):
        train(trained)
    for one, other in zip(model.weights, new.weights, strict=True):
        np.testing.assert_allclose(
            as_array(one), as_array(other), rtol=1e-5, atol=1e-6
        )


def test_an_optimizer_of_other_weights_stays():
    model = make_model()
    model.optimizer.build(model.trainable_variables[:3])
    before = [as_array(v).copy() for v in model.optimizer.variables]
    reinitialize(model, seed=1)
    for old, new in zip(before, model.optimizer.variables, strict=True):
        assert_same(old, as_array(new))


def test_the_learning_rate_stays():
    model = make_model("adam")
    train(model)
    model.optimizer.learning_rate = 0.123
    reinitialize(model, seed=1)
    assert float(model.optimizer.learning_rate) == np.float32(0.123)
    assert int(model.optimizer.iterations) == 0
