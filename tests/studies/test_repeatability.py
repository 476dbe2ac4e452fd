import itertools

import keras
import numpy as np
import pytest
from helpers import as_array
from keras import layers
from test_runner import Batches, fit, make_model, pipeline

from keras_parewire.studies import Study


@pytest.fixture
def check(tmp_path):
    def check(train, make=make_model):
        path = tmp_path / "study"
        study = Study(make, train, arms={"plain": None}, path=path)
        text = study.check()
        assert not path.exists()
        return text

    return check


def test_what_is_repeatable(check):
    def train(model, seed):
        loss = fit(model, Batches(seed), epochs=2)
        return {"loss": loss, "val_loss": fit(model, pipeline(seed))}

    text = check(train)
    assert text.startswith("Training is repeatable here: two runs of seed 0")
    assert "the same loss and val_loss and weights, to the last bit" in text


@pytest.mark.parametrize("make_data", [pipeline, lambda: Batches(0)])
def test_data_that_draw_outside_of_train(check, make_data):
    data = make_data()

    with pytest.raises(ValueError, match=r"same order.* Received: .*[0-9]+%"):
        check(lambda model, seed: {"loss": fit(model, data)})


@pytest.mark.any_backend
@pytest.mark.parametrize("given", ["one", "list", "list of all"])
def test_callbacks_of_the_user_are_called(check, given):
    ends = []

    def train(model, seed):
        callbacks = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: ends.append(epoch)
        )
        if given == "list":
            callbacks = [callbacks]
        if given == "list of all":
            callbacks = keras.callbacks.CallbackList(
                [callbacks], add_history=True, model=model
            )
        model.fit(np.ones((16, 8)), np.ones((16, 1)), 16, 2, 0, callbacks)
        return {"loss": float(len(ends))}

    assert "not repeatable" in check(train)
    # Three runs, and again, since they differ.
    assert ends == 6 * [0, 1]


def test_rounding_is_no_error(check):
    calls = itertools.count()

    def train(model, seed):
        kernel = as_array(model.layers[0].kernel)
        model.layers[0].kernel.assign(kernel * (1 + 1e-5 * next(calls)))
        return {"loss": fit(model, epochs=2)}

    text = check(train)
    assert "is not repeatable here to the last bit" in text
    assert "same but for rounding, so the data are in the same order" in text
    assert "verdicts stay valid" in text


def test_training_without_fit(check):
    generator = np.random.default_rng(0)

    def train(model, seed):
        x = generator.normal(size=(16, 8)).astype("float32")
        loss = model.train_on_batch(x, x[:, :1] > 0)[0]
        return {"loss": float(loss)}

    text = check(train)
    assert "calls no `fit`, so it cannot be seen" in text
    assert "end with different weights or numbers (loss by " in text


def test_what_the_first_run_leaves(check):
    left = {}

    def make():
        model = make_model()
        left["optimizer"] = keras.optimizers.Adam(0.1)
        return model

    def train(model, seed):
        optimizer, bias = left["optimizer"], model.layers[0].bias
        optimizer.apply([keras.ops.ones(bias.shape)], [bias])
        return {"steps": float(as_array(optimizer.iterations))}

    with pytest.raises(ValueError, match=r"before it.* \(steps by 1"):
        check(train, make)


def test_a_program_that_draws_when_it_is_traced(check):
    """It keeps drawing as in the process's first run."""

    class Noise(layers.Layer):
        def call(self, inputs):
            return inputs + np.random.uniform()

    def make():
        model = keras.Sequential([keras.Input((8,)), Noise(), layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    def train(model, seed):
        return {"loss": fit(model)}

    if keras.backend.backend() == "torch":  # It traces nothing.
        assert "is repeatable" in check(train, make)
    else:
        with pytest.raises(ValueError, match=r"`train_step` must draw from a "):
            check(train, make)


def test_numbers_too_coarse_to_differ(check):
    class Keeping(keras.Sequential):
        def keep(self):
            self._kept = getattr(self, "_kept", None) or []
            self._kept.append(1)
            return len(self._kept)

    def make():
        model = Keeping([keras.Input((8,)), layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    def train(model, seed):
        bias = model.layers[0].bias
        bias.assign(bias + model.keep())
        return {"accuracy": 0.5}

    with pytest.raises(ValueError, match=r"other weights or numbers"):
        check(train, make)


def test_a_callback_that_acts_late(check):
    class Late(keras.callbacks.Callback):
        batches = 0

        def on_train_batch_begin(self, batch, logs=None):
            self.batches += 1
            if self.batches > 20:
                self.model.optimizer.learning_rate = 0.5

    callback = Late()

    def train(model, seed):
        return {"loss": fit(model, epochs=4, callbacks=[callback])}

    with pytest.raises(ValueError, match=r"before it\. Callbacks, "):
        check(train)


def test_another_number_of_batches(check):
    lengths = itertools.count(16, 16)

    def train(model, seed):
        x = np.ones((next(lengths), 8), "float32")
        return {"loss": model.fit(x, x[:, :1], 16, verbose=0) and 1.0}

    with pytest.raises(ValueError, match="same data"):
        check(train)


@pytest.mark.any_backend
def test_training_that_fails(check):
    with pytest.raises(RuntimeError, match=r"must finish.* ZeroDivisionError"):
        check(lambda model, seed: 1 / 0)
