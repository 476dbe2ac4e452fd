"""A run depends on its arm and its seed only, whatever training does."""

import gc
import random
import weakref

import keras
import numpy as np
import pytest
from helpers import as_array, assert_permutation, assert_same
from keras import layers

from keras_parewire import reinitialize, rewire_model
from keras_parewire.studies import Study
from keras_parewire.studies.runs import make_runs

X = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
Y = (X.sum(axis=1, keepdims=True) > 0).astype("float32")
# Tracing takes TensorFlow longer than all runs.
EAGER = keras.backend.backend() == "tensorflow"


def draw(model, seed):
    """An arm that changes no weight."""
    random.random(), np.random.random(), keras.random.normal([2])


def compiled(model, optimizer="adam", **options):
    model.compile(
        optimizer, "binary_crossentropy", run_eagerly=EAGER, **options
    )
    return model


def make_model(*hidden):
    hidden = hidden or (layers.Dense(6, "relu"), layers.Dropout(0.2))
    return compiled(
        keras.Sequential([keras.Input((8,)), *hidden, layers.Dense(1)])
    )


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
        return 2

    def __getitem__(self, index):
        chosen = self.generator.integers(len(X), size=16)
        return X[chosen], Y[chosen]


def pipeline(seed=None):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y))
    return data.shuffle(len(X), seed=seed).batch(16)


def loader(seed):
    import torch

    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    generator = torch.Generator().manual_seed(seed)
    return torch.utils.data.DataLoader(
        data, batch_size=16, shuffle=True, generator=generator
    )


def unfreeze(model, seed):
    """Transfer learning: a new head first, then all of it."""
    model.layers[0].trainable = False
    compiled(model)
    first = fit(model)
    model.layers[0].trainable = True
    compiled(model, keras.optimizers.Adam(1e-5, weight_decay=0.1))
    return first + fit(model)


class Distiller(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.teacher, self.student = (
            compiled(keras.Sequential([layers.Dense(units), layers.Dense(1)]))
            for _ in range(2)
        )

    def build(self, shape):
        self.teacher.build(shape)
        self.student.build(shape)

    def call(self, inputs):
        return self.student(inputs)


def make_distiller():
    model = Distiller(4)
    model.build((None, 8))
    return model


def distill(model, seed):
    stages.append("teacher")
    fit(model.teacher)
    model.teacher.trainable = False
    stages.append("student")
    return fit(model.student)


stages = []


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule without a config."""

    def __call__(self, step):
        step = keras.ops.cast(step + 1, "float32")
        return 1e-2 * keras.ops.minimum(1.0, step / 10)


def with_optimizer(optimizer):
    return compiled(make_model(), optimizer())


class Scaling(layers.Layer):
    """Takes a function, has no config, counts its calls and keeps a buffer."""

    def __init__(self, function):
        super().__init__()
        self.function, self.calls, self.buffer = function, 0, []

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        self.calls += 1
        self.buffer.append(len(self.buffer))
        return self.function(inputs) * self.scale * (1.0 + 0.01 * self.calls)


def make_loaded():
    model = make_model()
    model.layers[0].bias.assign([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    return model


def see_bias(model, seed):
    bias = as_array(model.layers[0].bias)
    np.testing.assert_array_equal(bias, np.arange(6) + 1.0)
    return fit(model)


class GAN(keras.Model):
    """Has no `call`; its parts are built."""

    def __init__(self):
        super().__init__()
        noise = keras.Input((3,))
        self.generator = keras.Model(noise, layers.Dense(8)(noise))
        self.judge = keras.Sequential([keras.Input((8,)), layers.Dense(1)])


def train_gan(model, seed):
    generator = np.random.default_rng(seed)
    compiled(model.judge)
    model.judge.trainable = False
    noise = keras.Input((3,))
    both = compiled(keras.Model(noise, model.judge(model.generator(noise))))
    for _ in range(2):
        model.judge.trainable = True
        model.judge.train_on_batch(X, Y)
        model.judge.trainable = False
        z = generator.normal(size=(len(X), 3)).astype("float32")
        loss = both.train_on_batch(z, Y)
    return float(np.ravel(loss)[0])


def adapt(model, seed):
    model.layers[0].adapt(X + seed)
    return fit(model)


def fail_within_fit(model, seed):
    def stop(batch, logs):
        raise KeyError(batch)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    with pytest.raises(KeyError):
        fit(model, callbacks=[callback])
    return fit(make_model())


def keep():
    """Returns one model, each time as it was when it was made."""
    model = make_model()
    fit(model)  # Only the first draws one batch more.

    def make():
        reinitialize(model)
        return model

    return make


CASES = {
    "arrays": (make_model, lambda m, s: fit(m, epochs=2)),
    "pipeline": (make_model, lambda m, s: fit(m, pipeline(s), epochs=2)),
    "unseeded pipeline": (make_model, lambda m, s: fit(m, pipeline())),
    "PyDataset": (make_model, lambda m, s: fit(m, Batches(s), epochs=2)),
    "DataLoader": (make_model, lambda m, s: fit(m, loader(s), epochs=2)),
    "unfreezing": (make_model, unfreeze),
    "stages": (make_distiller, distill),
    "schedule": (
        lambda: with_optimizer(lambda: keras.optimizers.Adam(WarmUp())),
        lambda m, s: fit(m),
    ),
    "rate": (
        lambda: with_optimizer(lambda: keras.optimizers.SGD(lambda: 0.1)),
        lambda m, s: fit(m),
    ),
    "copies": (
        lambda: with_optimizer(keras.optimizers.ScheduleFreeAdamW),
        lambda m, s: fit(m),
    ),
    "no config": (
        lambda: make_model(layers.Dense(4), Scaling(lambda x: x * 2)),
        lambda m, s: fit(m) * m.layers[1].calls * len(m.layers[1].buffer),
    ),
    "loaded": (make_loaded, see_bias),
    "parts": (GAN, train_gan),
    "adapt": (lambda: make_model(layers.Normalization()), adapt),
    "exception": (make_model, fail_within_fit),
    "kept": (None, lambda m, s: fit(m)),
}


def run(make, train, arm=None, seed=0):
    [(_, outcome)] = make_runs((make, train, {"arm": arm}), seed, ["arm"])
    return outcome


def loss_of(make, train, arm, seed):
    outcome = run(make, lambda m, s: {"loss": float(train(m, s))}, arm, seed)
    assert outcome.exception is None, outcome.error
    return outcome.metrics["loss"]


@pytest.mark.parametrize("case", CASES)
def test_equal_arms_give_equal_rows(case):
    if case == "DataLoader" and keras.backend.backend() != "torch":
        pytest.skip("Keras takes a DataLoader on PyTorch only")
    make, train = CASES[case]
    make = make or keep()
    stages.clear()
    first = loss_of(make, train, None, 0)
    other = loss_of(make, train, draw, 1)
    assert loss_of(make, train, draw, 0) == first != other
    assert stages == ["teacher", "student"] * (3 if case == "stages" else 0)


def test_arms_start_from_the_same_draw():
    seen = {}

    def look(model, seed):
        seen[seed, len(seen) % 3] = [as_array(w).copy() for w in model.weights]
        return {"loss": 0}

    def flip(model, seed):
        model.layers[0].kernel.assign(-as_array(model.layers[0].kernel))

    for seed in (0, 1):
        for arm in (None, rewire_model, flip):
            run(make_model, look, arm, seed)
    for seed in (0, 1):
        plain, pa, other = (seen[seed, place] for place in range(3))
        assert not np.array_equal(plain[0], pa[0])
        assert_permutation(plain[0], pa[0])
        assert_same(plain[0], -other[0])
        for one, another in zip(plain[1:], other[1:], strict=True):
            assert_same(one, another)
    assert not np.array_equal(seen[0, 0][0], seen[1, 0][0])
    keras.utils.set_random_seed(0)
    model = make_model()
    rewire_model(model, seed=0)
    for one, another in zip(seen[0, 1], model.weights, strict=True):
        assert_same(one, another)


def test_models_of_earlier_runs_are_gone(tmp_path):
    made, alive = [], []

    def make():
        gc.collect()
        alive.append(sum(ref() is not None for ref in made))
        model = make_model()
        made.append(weakref.ref(model))
        return model

    def train(model, seed):
        if seed:
            raise MemoryError("no luck")
        return {"loss": 0.0}

    arms = {"plain": None, "pa": rewire_model}
    study = Study(make, train, arms=arms, path=tmp_path / "study")
    with pytest.warns(UserWarning, match="4 of 6 runs have failed"):
        study.run(range(3), verbose=0)
    assert alive == [0] * 6


def make_metrics(own):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1, "sigmoid")])
    metrics = [keras.metrics.AUC(name=own), keras.metrics.Recall()]
    metrics += [keras.metrics.BinaryAccuracy(f"top_{i}") for i in (5, 10)]
    return compiled(model, "sgd", metrics=metrics)


@pytest.mark.parametrize("own", ["auc7", None])
def test_numbers_that_keras_counts_are_not_in_names(own):
    def train(model, seed):
        history = model.fit(X, Y, validation_split=0.5, verbose=0).history
        return {name: values[-1] for name, values in history.items()}

    for _ in range(2):
        outcome = run(lambda: make_metrics(own), train)
        names = ["loss", own or "auc", "recall", "top_5", "top_10"]
        names += [f"val_{name}" for name in names]
        assert sorted(outcome.metrics) == sorted(names)


def test_outputs_that_keras_numbers_keep_their_order():
    def make():
        inputs = keras.Input((8,))
        outputs = [layers.Dense(1)(inputs) for _ in range(12)]
        return compiled(keras.Model(inputs, outputs), metrics=["mae"] * 12)

    def train(model, seed):
        numbers = [float(layer.name.split("_")[-1]) for layer in made(model)]
        names = [f"{layer.name}_mae" for layer in made(model)]
        return dict(zip(names, np.subtract(numbers, numbers[0]), strict=True))

    def made(model):
        return [x for x in model.layers if isinstance(x, layers.Dense)]

    make(), make()
    outcome = run(make, train)
    expected = {f"dense_{i}_mae" if i else "dense_mae": i for i in range(12)}
    assert outcome.metrics == expected


def test_check_tells_what_it_saw(tmp_path):
    def train(model, seed):
        return {"loss": fit(model)}

    def reach_one(model, seed):
        rewire_model(model, layers=model.layers[:1], seed=seed)

    def make_deep():
        return make_model(*(layers.Dense(8) for _ in range(9)))

    arms = {"plain": None, "pa": rewire_model, "one": reach_one}
    study = Study(make_deep, train, arms=arms, path=tmp_path / "study")
    found = study.check()
    assert study.rows() == []
    assert found.repeatable
    same, other = found.metrics["loss"]
    assert same == 0 < other
    assert found.arms["plain"] == (0, 10, 0.0)
    assert found.arms["pa"][:2] == (9, 10)
    assert found.arms["one"][:2] == (1, 10)
    assert 0 < 8 * found.arms["one"][2] < found.arms["pa"][2] < 1
    text = str(found)
    assert repr(found) == found._repr_markdown_() == text
    assert text.startswith("Training is repeatable here: ")
    assert "| 1 of 10 " in text


def test_check_sees_data_that_are_not_from_the_seed(tmp_path):
    data, generator = Batches(0), np.random.default_rng(0)

    def train(model, seed):
        if noisy:
            kernel = model.layers[0].kernel
            noise = 1e-4 * generator.normal()
            kernel.assign(as_array(kernel) * (1 + noise))
        return {"loss": fit(model, None if noisy else data)}

    study = Study(make_model, train, arms={"a": None}, path=tmp_path / "study")
    noisy = True
    found = study.check()
    same, other = found.metrics["loss"]
    assert 0 < same < 0.1 * other
    noisy = False
    found = study.check()
    same, other = found.metrics["loss"]
    assert not found.repeatable
    assert other < 10 * same
    assert "the runs saw other data or drew other numbers" in str(found)


@pytest.mark.any_backend
def test_check_of_an_arm_that_freezes(tmp_path):
    def freeze(model, seed):
        model.layers[0].trainable = False

    def make_model():
        parts = [keras.Input((3,)), layers.Dense(4), layers.Dense(2)]
        return keras.Sequential(parts)

    arms = {"plain": None, "frozen": freeze}
    study = Study(
        make_model, lambda m, seed: {"loss": 0.5}, arms=arms, path=tmp_path
    )
    assert study.check().arms == {"plain": (0, 2, 0), "frozen": (0, 2, 0)}


def test_check_raises_what_training_raises(tmp_path):
    study = Study(
        make_model,
        lambda model, seed: 1 / 0,
        arms={"a": None},
        path=tmp_path / "study",
    )
    with pytest.raises(ZeroDivisionError):
        study.check()
