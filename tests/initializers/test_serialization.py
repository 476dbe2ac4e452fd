import copy
import importlib.util
import json
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import KERAS_VERSION, assert_same, child_environment
from keras import layers

from keras_parewire import (
    Centered,
    PARewired,
    Sinusoidal,
    StrengthStabilized,
    rewire,
)

SHAPE = (24, 16)
FROZEN = Path(__file__).parent / "data" / "frozen.json"


@keras.saving.register_keras_serializable(package="keras_parewire_tests")
def constant_normal(shape, dtype=None):
    return keras.random.normal(shape, dtype=dtype, seed=3)


def both():
    return PARewired(
        StrengthStabilized("he_normal", candidates=5),
        exponent=2.0,
        input_axes=[0],
        output_axes=[1],
        seed=0,
    )


INITIALIZERS = {
    "default": PARewired,
    "nested": both,
    "greedy": lambda: PARewired("he_normal", exponent=float("inf"), seed=1),
    "stabilized": lambda: StrengthStabilized(
        "glorot_normal", candidates=3, seed=1
    ),
    "generator": lambda: PARewired(seed=keras.random.SeedGenerator(5)),
    "base with a generator": lambda: PARewired(
        keras.initializers.HeNormal(seed=keras.random.SeedGenerator(5))
    ),
    "function": lambda: PARewired(constant_normal, seed=1),
}
initializers = pytest.mark.parametrize(
    "make", list(INITIALIZERS.values()), ids=list(INITIALIZERS)
)


def is_unseeded(initializer):
    return initializer.get_config()["seed"] is None


@initializers
def test_config_round_trip(make):
    initializer = make()
    config = keras.initializers.serialize(initializer)
    config = json.loads(json.dumps(config))
    restored = keras.initializers.deserialize(config)
    assert type(restored) is type(initializer)
    assert keras.initializers.serialize(restored) == config
    assert vars(restored).keys() == vars(initializer).keys()
    if not is_unseeded(initializer):
        assert_same(restored(SHAPE), initializer(SHAPE))
    elif config["config"]["base"]["class_name"] == "HeNormal":
        # Its generator starts anew.
        assert_same(restored(SHAPE), make()(SHAPE))


def is_plain(value):
    if isinstance(value, dict):
        value = [*value, *value.values()]
    elif type(value) not in (list, tuple):
        return value is None or type(value) in (bool, int, float, str)
    return all(map(is_plain, value))


def unregistered(shape, dtype=None):
    return keras.random.normal(shape, dtype=dtype, seed=3)


@pytest.mark.parametrize(
    "make",
    [
        *INITIALIZERS.values(),
        lambda: PARewired(unregistered),
        lambda: Centered(PARewired(unregistered)),
        lambda: StrengthStabilized(
            keras.initializers.HeNormal(seed=keras.random.SeedGenerator(5))
        ),
        lambda: PARewired(keras.initializers.Constant(np.ones(SHAPE))),
        lambda: Sinusoidal(input_axes=(0,), output_axes=(1,)),
    ],
)
def test_configs_hold_plain_types(make):
    config = make().get_config()
    assert is_plain(config) and type(config) is dict
    assert type(config.get("base", {})) is dict
    assert copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config)) == config


@initializers
def test_copies(make):
    initializer = make()
    if "generator" in str(initializer.get_config()).lower():
        pytest.skip("Keras' seed generators can neither be copied nor pickled")
    expected = initializer(SHAPE)
    assert_same(copy.deepcopy(initializer)(SHAPE), expected)
    assert_same(pickle.loads(pickle.dumps(initializer))(SHAPE), expected)


def test_names():
    # They are written into users' files, and so must never change.
    for name, cls in (
        ("keras_parewire>PARewired", PARewired),
        ("keras_parewire>StrengthStabilized", StrengthStabilized),
    ):
        assert keras.saving.get_registered_name(cls) == name
        if KERAS_VERSION < (3, 16):  # Later, bare names are Keras' own only.
            assert type(keras.initializers.get(name)) is cls
        config = {"class_name": name, "config": {}}
        layer = layers.Dense(3, kernel_initializer=config)
        layer.build((None, 4))
        assert type(layer.kernel_initializer) is cls
        config = {"class_name": name, "config": {"base": "he_normal"}}
        assert type(keras.initializers.get(config)) is cls


def test_frozen_config():
    # A config as version 0.1.0 saved it must load forever.
    config = json.loads(FROZEN.read_text())
    restored = keras.initializers.deserialize(config)
    assert_same(restored(SHAPE), both()(SHAPE))
    assert restored.get_config() == both().get_config()


def make_model():
    x = inputs = keras.Input((6, 8))
    x = layers.Dense(16, kernel_initializer=both())(x)
    x = layers.MultiHeadAttention(
        2, 8, kernel_initializer=PARewired("glorot_uniform")
    )(x, x)
    x = layers.Bidirectional(
        layers.LSTM(
            4,
            kernel_initializer=StrengthStabilized("lecun_normal", candidates=3),
        )
    )(x)
    x = layers.Dense(3, kernel_initializer=PARewired(seed=1))(x)
    model = keras.Model(inputs, x)
    model.compile("sgd", "mse")
    return model


def assert_same_weights(one, other):
    for new, old in zip(one.weights, other.weights, strict=True):
        assert_same(new.value, old.value)


@pytest.mark.slow
def test_save_and_load_in_this_process(tmp_path):
    model = make_model()
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_weights(restored, model)
    assert type(restored.layers[1].kernel_initializer) is PARewired


@pytest.mark.slow
def test_clone_model():
    model = make_model()
    clone = keras.models.clone_model(model)
    # Seeded kernels are the same again, unseeded ones are new.
    assert_same(clone.layers[-1].kernel.value, model.layers[-1].kernel.value)
    for one, other in zip(
        model.layers[2].weights, clone.layers[2].weights, strict=True
    ):
        if one.path.endswith("kernel"):
            assert not np.array_equal(one.numpy(), other.numpy())


def test_pickled_model():
    model = make_model()
    assert_same_weights(pickle.loads(pickle.dumps(model)), model)


LOAD = """
import sys
import numpy as np
import keras
try:
    keras.saving.load_model(sys.argv[1])
except TypeError as error:
    print(error)
import keras_parewire
model = keras.saving.load_model(sys.argv[1])
np.savez(sys.argv[2], *model.get_weights())
"""

# One of the nine directions: what is saved does not tell the backend.
OTHER = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}


@pytest.mark.any_backend
@pytest.mark.slow
def test_load_in_a_fresh_process_on_another_backend(tmp_path):
    backend = OTHER[keras.backend.backend()]
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    model = make_model()
    model.save(tmp_path / "model.keras")
    process = subprocess.run(
        [
            *(sys.executable, "-c", LOAD),
            *(tmp_path / "model.keras", tmp_path / "weights.npz"),
        ],
        env=child_environment(KERAS_BACKEND=backend),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    with np.load(tmp_path / "weights.npz") as loaded:
        for weight, name in zip(model.weights, loaded.files, strict=True):
            assert_same(weight.value, loaded[name])
    # Without the package, a guide quotes this error for those who search for
    # it.
    last = process.stdout.splitlines()[-1]
    if KERAS_VERSION < (3, 16):
        assert "Could not interpret initializer identifier: {'mod" in last
    else:
        assert "Could not locate class 'PARewired'" in last
    assert (
        "{'module': 'keras_parewire.initializers.pa_rewired', 'class_name': "
        "'PARewired'"
    ) in last


def test_lambda_bases_are_as_unsafe_as_in_keras():
    with pytest.warns(UserWarning, match="lambda"):
        config = keras.initializers.serialize(
            PARewired(lambda shape, dtype=None: rewire(np.ones(shape)))
        )
    with pytest.raises(ValueError, match="safe_mode=False"):
        keras.initializers.deserialize(config)
