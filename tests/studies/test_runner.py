"""Equal arms must give equal rows, whatever training does."""

import collections
import functools
import random
import tempfile

import keras
import numpy as np
import pytest
from helpers import as_array
from keras import layers

from keras_parewire.studies.runner import Runner

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
Y = (X.sum(axis=1, keepdims=True) > 0).astype("float32")


def draw(model, seed):
    """Changes no weight."""
    random.random(), np.random.random(), keras.random.normal([2])
    random_states = [v for v in model.variables if "seed" in v.path]
    for variable in random_states:
        variable.assign(variable + 1)


ARMS = {"one": None, "other": draw}
# Tracing takes TensorFlow longer than all runs.
EAGER = keras.backend.backend() == "tensorflow"


def make_model(*hidden, optimizer="adam", shape=(None, 8)):
    hidden = hidden or (layers.Dense(6, activation="relu"), layers.Dropout(0.2))
    inputs = keras.Input(batch_shape=shape)
    model = keras.Sequential([inputs, *hidden, layers.Dense(1, "sigmoid")])
    loss = "binary_crossentropy"
    model.compile(optimizer, loss, metrics=["mae"], run_eagerly=EAGER)
    return model


def fit(model, data=None, **kwargs):
    arguments = (X, Y, 16) if data is None else (data,)
    shuffle = data is None  # Keras warns that it does not shuffle others.
    history = model.fit(*arguments, shuffle=shuffle, verbose=0, **kwargs)
    return history.history["loss"][-1]


class Batches(keras.utils.PyDataset):
    """Draws its order from a generator of its own."""

    def __init__(self, seed):
        super().__init__()
        self.generator = np.random.default_rng(seed)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        chosen = self.generator.integers(len(X), size=16)
        return X[chosen], Y[chosen]


def pipeline(seed=None):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y))
    return data.shuffle(64, seed=seed).batch(16)


def loader(seed):
    import torch

    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    generator = torch.Generator().manual_seed(seed)
    return torch.utils.data.DataLoader(
        data, batch_size=16, shuffle=True, generator=generator
    )


def batches(seed):
    generator = np.random.default_rng(seed)
    while True:
        chosen = generator.integers(len(X), size=16)
        yield X[chosen], Y[chosen]


def train_on_own_batches(model, seed):
    for start in range(0, 64, 16):
        batch = slice(start, start + 16)
        loss = model.train_on_batch(X[batch], Y[batch])[0]
    return loss


def fit_twice(model, seed):
    model.evaluate(Batches(seed), verbose=0)
    first = fit(model, Batches(seed))
    return first + fit(model, pipeline(seed))


def fit_until_stopped(model, seed):
    losses = []
    while not model.stop_training:
        losses.append(train_on_own_batches(model, seed))
        model.stop_training = len(losses) == 3
    return sum(losses)


def make_stateful():
    rnn = layers.SimpleRNN(3, stateful=True)
    return make_model(layers.Reshape((4, 2)), rnn, shape=(16, 8))


def evaluate(model, seed):
    return model.evaluate(X, Y, 16, verbose=0)[0]


def make_inner():
    inner = make_model()
    model = keras.Sequential([keras.Input((8,)), inner])
    model.compile("sgd", "mse", metrics=["mae"], run_eagerly=EAGER)
    return model


def fit_inner(model, seed):
    return fit(model.layers[0], Batches(seed)) + fit(model, Batches(seed))


class TwoOptimizers(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.out = layers.Dense(6), layers.Dense(1)
        self.other = keras.optimizers.Adam(0.01)

    def call(self, inputs):
        return self.out(self.dense(inputs))


def make_two():
    model = TwoOptimizers()
    model(X)
    model.compile("sgd", "mse", run_eagerly=EAGER)
    model.other.build(model.out.trainable_variables)
    return model


def use_both(model, seed):
    loss = fit(model)
    gradients = [np.ones(v.shape, "float32") for v in model.out.weights]
    gradients = [keras.ops.convert_to_tensor(g) for g in gradients]
    model.other.apply(gradients)
    model.other.learning_rate.assign(0.5)
    return loss + float(np.sum(as_array(model.out.weights[0])))


def make_gan():
    """Returns a generator and a discriminator with an optimizer of its own."""
    judge = keras.Sequential([keras.Input((8,)), layers.Dense(1, "sigmoid")])
    judge.compile("adam", "binary_crossentropy", run_eagerly=EAGER)
    judge.trainable = False  # It does not train with the generator.
    noise = keras.Input((3,))
    model = keras.Model(noise, judge(layers.Dense(8)(noise)))
    model.compile("adam", "binary_crossentropy", run_eagerly=EAGER)
    model.judge = judge
    return model


def train_gan(model, seed):
    generator = np.random.default_rng(seed)
    for _ in range(3):
        model.judge.trainable = True
        loss = model.judge.train_on_batch(X, Y)
        model.judge.trainable = False
        model.train_on_batch(generator.normal(size=(64, 3)), Y)
    return float(np.ravel(loss)[0])


def fit_with_another_rate(model, seed):
    dropout, rate = model.layers[1], model.layers[1].rate
    dropout.rate = 0.9
    loss = fit(model, Batches(seed))
    dropout.rate = rate
    return loss


def fit_loaded(model, seed):
    """Keras notes in layers that they have been loaded."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.weights.h5"
        model.save_weights(path)
        model.load_weights(path)
    return fit(model, Batches(seed))


def make_numbered():
    model = make_model()
    model.layers[1].factor = np.float64(0.5)
    return model


def fit_with_an_equal_number(model, seed):
    model.layers[1].factor = np.float64(0.5)
    return fit(model, Batches(seed))


class Measuring(layers.Layer):
    """Measures when it is told to, as `Normalization` does."""

    def build(self, input_shape):
        self.mean = self.add_weight(
            shape=(input_shape[-1],), initializer="zeros", trainable=False
        )

    def adapt(self, data):
        self.mean.assign(np.mean(data, axis=0))

    def call(self, inputs):
        return inputs - self.mean


def fit_measured(model, seed):
    loss = fit(model, Batches(seed))
    model.layers[0].adapt(X + seed)
    return loss


# What is made within `train`, or is a state that is put back.
CASES = {
    "arrays": (make_model, lambda m, s: fit(m, epochs=2)),
    "pipeline": (make_model, lambda m, s: fit(m, pipeline(s), epochs=2)),
    "unseeded pipeline": (make_model, lambda m, s: fit(m, pipeline())),
    "PyDataset": (make_model, lambda m, s: fit(m, Batches(s), epochs=2)),
    "DataLoader": (make_model, lambda m, s: fit(m, loader(s), epochs=2)),
    "generator": (
        make_model,
        lambda m, s: fit(m, batches(s), steps_per_epoch=4),
    ),
    "validation": (
        make_model,
        lambda m, s: fit(m, Batches(s), validation_data=Batches(s + 1)),
    ),
    "fit twice": (make_model, fit_twice),
    "fit inner": (make_inner, fit_inner),
    "train_on_batch": (make_model, train_on_own_batches),
    "stop_training": (make_model, fit_until_stopped),
    "stateful": (make_stateful, evaluate),
    "two optimizers": (make_two, use_both),
    "two models in turn": (make_gan, train_gan),
    "another rate": (make_model, fit_with_another_rate),
    "loaded": (make_model, fit_loaded),
    "equal number": (make_numbered, fit_with_an_equal_number),
    "measured": (lambda: make_model(Measuring()), fit_measured),
    "learning rate": (
        lambda: make_model(
            optimizer=keras.optimizers.LossScaleOptimizer(
                keras.optimizers.SGD(0.1)
            )
        ),
        lambda m, s: (fit(m), m.optimizer.learning_rate.assign(0.9))[0],
    ),
}


def set_schedule(model, seed):
    loss = fit(model)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5)
    model.optimizer.learning_rate = schedule
    return loss


def set_on_optimizer(model, seed, **changes):
    loss = fit(model)
    for name, value in changes.items():
        setattr(model.optimizer, name, value)
    return loss


def set_on_layer(model, seed, place, **changes):
    loss = fit(model)
    for name, value in changes.items():
        setattr(model.layers[place], name, value)
    return loss


def set_before(model, seed):
    model.optimizer.weight_decay = (model.optimizer.weight_decay or 0.1) * 2
    return fit(model)


def make_adapted():
    normalization = layers.Normalization()
    normalization.adapt(X)
    return make_model(normalization)


def adapt(model, seed):
    generator = np.random.default_rng(seed)
    model.layers[0].adapt(X * generator.uniform(0.5, 2, 8).astype("float32"))
    return fit(model)


def count(model, seed):
    model._steps = getattr(model, "_steps", 1) + 1
    return fit(model) * model._steps


class Noise(layers.Layer):
    """Draws from a generator that Keras does not know."""

    def __init__(self):
        super().__init__()
        self.generator, self.drawn = np.random.default_rng(0), []

    def call(self, inputs):
        return inputs

    def draw(self):
        self.drawn.append(float(self.generator.uniform()))
        return self.drawn[-1]


def make_buffered():
    model = make_model()
    model.buffer = collections.deque([0])
    return model


def make_counted():
    model = make_model()
    model.counts = np.ones(3)
    return model


def count_up(model, seed):
    model.counts += 1
    return fit(model) * model.counts[0]


def make_noisy():
    return make_model(Noise(), layers.Dense(6))


# What is no state, so that the model is made again, and what is named.
CHANGES = {
    "schedule": (make_model, set_schedule, "learning_rate"),
    "weight_decay": (
        make_model,
        functools.partial(set_on_optimizer, weight_decay=0.5),
        "weight_decay",
    ),
    "clipnorm": (
        make_model,
        functools.partial(set_on_optimizer, clipnorm=0.01),
        "clipnorm",
    ),
    "before training": (make_model, set_before, "weight_decay"),
    "trainable": (
        make_model,
        functools.partial(set_on_layer, place=0, trainable=False),
        "trainable",
    ),
    "rate": (
        make_model,
        functools.partial(set_on_layer, place=1, rate=0.9),
        "rate",
    ),
    "adapt": (make_adapted, adapt, "normalization.*mean"),
    "private number": (make_model, count, "_steps"),
    "buffer": (
        make_buffered,
        lambda m, s: m.buffer.append(s) or fit(m) * len(m.buffer),
        "buffer",
    ),
    "array": (make_counted, count_up, "counts"),
    "generator": (
        make_noisy,
        lambda m, s: fit(m) + m.layers[0].draw(),
        r"noise\w*\.generator, noise\w*\.drawn",
    ),
}


def losses(make, train, runs, arms=ARMS):
    runner = Runner(make, lambda m, s: {"loss": float(train(m, s))}, arms)
    outcomes = {run: runner.run(*run) for run in runs}
    assert {outcome.error for outcome in outcomes.values()} == {None}
    return {run: outcome.metrics["loss"] for run, outcome in outcomes.items()}


def check_runs(make, train):
    found = losses(make, train, [("one", 1), ("other", 0)])
    # As in another process, of which it is the first run.
    [first] = losses(make, train, [("one", 0)]).values()
    assert first == found["other", 0] != found["one", 1]


@pytest.mark.parametrize("case", CASES)
def test_equal_arms_give_equal_rows(case):
    if case == "DataLoader" and keras.backend.backend() != "torch":
        pytest.skip("Keras takes a DataLoader on PyTorch only")
    check_runs(*CASES[case])


def make_frozen():
    table = layers.Embedding(
        4, 2, weights=np.ones((4, 2)), trainable=False, name="table"
    )
    return keras.Sequential([keras.Input((3,)), table, layers.Dense(1)])


def make_copied():
    model = make_model(
        layers.Dense(8, name="online"), layers.Dense(8, name="target")
    )
    model.layers[1].set_weights(model.layers[0].get_weights())
    return model


def make_loaded():
    model = make_model(layers.Dense(2), layers.BatchNormalization(name="norm"))
    model.layers[1].moving_mean.assign([1.0, 2.0])
    return model


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("make", "weight"),
    [
        (make_frozen, "table/embeddings"),
        (make_copied, "target/kernel"),
        (make_loaded, "norm/moving_mean"),
    ],
)
def test_weights_that_are_not_drawn_are_named(make, weight):
    with pytest.warns(UserWarning, match=f"with 1 other weights.*{weight}"):
        Runner(make, lambda model, seed: {}, ARMS)


def test_random_layers_draw_by_the_seed():
    def train(model, seed):
        kept = as_array(model.layers[1](np.ones((8, 8)), training=True))
        return float(np.sum(kept.ravel() * np.arange(64)))

    runs = [("one", 1), ("other", 1), ("one", 2), ("one", 3)]
    found = [*losses(make_model, train, runs).values()]
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("case", CHANGES)
def test_what_training_changes_is_undone_and_named(case):
    make, train, name = CHANGES[case]
    with pytest.warns(UserWarning, match=f"must not change .*{name}"):
        check_runs(make, train)
