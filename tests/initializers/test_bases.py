"""Which bases the wrappers take, and how they keep them."""

import functools
import json
import random
import threading
import warnings

import keras
import numpy as np
import pytest
from helpers import assert_permutation, assert_same, bits
from keras import layers, ops

from keras_parewire import (
    Centered,
    PARewired,
    Sinusoidal,
    StrengthStabilized,
    rewire,
)

SHAPE = (24, 16)


class Unregistered(keras.initializers.Initializer):
    def __init__(self, scale=1.0, seed=None):
        self.scale = scale
        self.seed = seed if seed is not None else random.randint(1, 10**9)
        self.given_seed = seed

    def __call__(self, shape, dtype=None):
        normal = keras.random.normal(shape, dtype=dtype, seed=self.seed)
        return self.scale * normal

    def get_config(self):
        return {"scale": self.scale, "seed": self.given_seed}


class OwnVarianceScaling(keras.initializers.VarianceScaling):
    def __init__(self, seed=None):
        super().__init__(2.0, "fan_in", "truncated_normal", seed)

    def get_config(self):
        return {"seed": super().get_config()["seed"]}


def function(shape, dtype=None):
    return keras.random.normal(shape, dtype=dtype, seed=3)


BASES = {
    "unregistered class": Unregistered,
    "unregistered instance": Unregistered(0.5),
    "function": function,
    "lambda": lambda shape, dtype=None: function(shape, dtype),
    "own VarianceScaling": OwnVarianceScaling(),
}
bases = pytest.mark.parametrize("base", list(BASES.values()), ids=list(BASES))
wrappers = pytest.mark.parametrize("wrapper", [PARewired, StrengthStabilized])
any_wrapper = pytest.mark.parametrize(
    "wrapper", [PARewired, StrengthStabilized, Centered]
)


@pytest.mark.slow
@bases
@pytest.mark.filterwarnings("ignore:`StrengthStabilized` needs a base")
@pytest.mark.parametrize(
    ("wrapper", "seed"),
    [
        (PARewired, None),
        (functools.partial(StrengthStabilized, candidates=2), 1),
    ],
    ids=["unseeded", "seeded"],
)
def test_bases_need_not_be_registered(base, wrapper, seed):
    x = inputs = keras.Input((6, 8))
    x = layers.EinsumDense(
        "abc,cd->abd", (None, 4), kernel_initializer=wrapper(base, seed=seed)
    )(x)
    x = layers.MultiHeadAttention(
        2, 4, kernel_initializer=wrapper(base, seed=seed)
    )(x, x)
    x = layers.GroupQueryAttention(
        2, 2, 2, kernel_initializer=wrapper(base, seed=seed)
    )(x, x)
    model = keras.Model(inputs, x)
    kernel = model.layers[1].kernel
    if seed is not None or base is function:
        again = wrapper(base, seed=seed).clone()(tuple(kernel.shape))
        assert_permutation(kernel.value, again)


@bases
def test_clones_keep_the_base(base):
    wrapped = PARewired(base, exponent=2.0, seed=1)
    assert_same(wrapped.clone()(SHAPE), wrapped(SHAPE))


def test_clones_share_the_generator_of_a_base():
    generator = keras.random.SeedGenerator(1)
    for wrapped in (
        PARewired(keras.initializers.HeNormal(seed=generator)),
        PARewired(
            StrengthStabilized(
                keras.initializers.HeNormal(seed=generator), candidates=2
            )
        ),
    ):
        innermost = clone = wrapped.clone()
        while hasattr(innermost, "base"):
            innermost = innermost.base
        assert innermost.seed is clone.seed is generator


def test_a_config_that_was_changed_is_what_it_says():
    config = PARewired(keras.initializers.HeNormal(seed=1)).get_config()
    for seed in (1, 2, 3):
        config["base"]["config"]["seed"] = seed
        plain = keras.initializers.HeNormal(seed=seed)
        restored = PARewired.from_config(config)
        assert_permutation(restored(SHAPE), plain(SHAPE))


def test_a_config_can_be_used_again():
    base = Unregistered(0.5, seed=1)
    config = PARewired(StrengthStabilized(base, candidates=2)).get_config()
    for _ in range(2):
        restored = PARewired.from_config(config)
        assert restored.base.base.scale == 0.5


def test_clones_of_an_unseeded_base_draw_anew():
    wrapped = PARewired(Unregistered(0.5))
    one, other = wrapped.clone(), wrapped.clone()
    assert one.base.seed != other.base.seed
    assert one.base.scale == 0.5


def test_axes_reach_a_class_that_does_not_take_them():
    axes = {"input_axes": [0], "output_axes": [1, 2]}
    wrapped = PARewired(OwnVarianceScaling(seed=1), **axes)
    plain = keras.initializers.HeNormal(seed=1, **axes)
    assert_permutation(wrapped((16, 4, 4)), plain((16, 4, 4)))


@wrappers
@pytest.mark.parametrize(
    "base",
    [
        "he_normal",
        keras.initializers.HeNormal,
        {"class_name": "HeNormal", "config": {}},
        {"class_name": "HeNormal", "config": {"seed": None}},
        Unregistered,
        "keras_parewire>StrengthStabilized",
    ],
    ids=str,
)
def test_a_seeded_wrapper_draws_no_seed(wrapper, base):
    before = random.getstate()
    wrapped = wrapper(base, seed=5)
    wrapped.clone()
    assert random.getstate() == before
    # It still tells an unseeded base from a seeded one.
    assert wrapped.get_config()["base"]["config"]["seed"] is None


@pytest.mark.parametrize("seed", [None, 2])
@pytest.mark.parametrize("base", ["ones", function], ids=str)
def test_an_unseeded_base_costs_no_seed(base, seed):
    before = random.getstate()
    PARewired(base, seed=seed).clone()
    assert random.getstate() == before


def test_a_base_without_a_seed_follows_the_global_one():
    values = keras.random.normal(SHAPE, seed=0)

    def rewired(seed):
        keras.utils.set_random_seed(seed)
        return PARewired(lambda shape, dtype=None: values)(SHAPE)

    assert_same(rewired(1), rewired(1))
    assert (bits(rewired(1)) != bits(rewired(2))).any()


def test_threads_do_not_disturb_each_other():
    """No seed that one thread draws is drawn again in another."""
    stop = threading.Event()

    def wrap():
        while not stop.is_set():
            PARewired("he_normal", seed=1)
            PARewired(
                StrengthStabilized("orthogonal", candidates=2), seed=2
            ).clone()

    threads = [threading.Thread(target=wrap) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        seeds = [keras.initializers.HeNormal().seed for _ in range(5000)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    # Among so many of 10**9, a few may be equal by chance.
    assert len(set(seeds)) > len(seeds) - 5


@pytest.mark.parametrize("make", [np.ones, ops.ones])
def test_arrays_are_no_bases(make):
    with pytest.raises(TypeError, match=r"keras_parewire.rewire\(.*Received: "):
        PARewired(make((3, 4)))


@pytest.mark.parametrize(
    ("module", "name"), [("keras.config", "set_backend"), ("builtins", "print")]
)
def test_functions_of_a_config_must_be_initializers(module, name):
    config = {
        "class_name": "function",
        "config": name,
        "module": module,
        "registered_name": name,
    }
    with pytest.raises(ValueError, match=r"registered.*Received: base="):
        PARewired(config)


def test_functions_of_a_custom_object_scope_load():
    config = keras.initializers.serialize(PARewired(function, seed=1))
    with keras.saving.custom_object_scope({"function": function}):
        restored = keras.initializers.deserialize(config)
    assert_same(restored(SHAPE), PARewired(function, seed=1)(SHAPE))


def test_infinity_is_valid_json():
    wrapped = PARewired("he_normal", exponent=float("inf"), seed=1)
    text = json.dumps(keras.initializers.serialize(wrapped), allow_nan=False)
    restored = keras.initializers.deserialize(json.loads(text))
    assert restored.exponent == float("inf")


@pytest.mark.parametrize(
    "base",
    [
        object,
        object(),
        keras.optimizers.Adam,
        keras.layers.Dense(2),
        keras.losses.MeanSquaredError(),
        len,
        lambda: None,
        None,
        True,
        [[1.0, 2.0]],
        "constant",  # Keras itself needs a value.
    ],
    ids=str,
)
def test_what_is_not_an_initializer_is_refused_at_once(base):
    with pytest.raises(ValueError, match=r"must be .*Received: base="):
        PARewired(base)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["orthogonal", "HeNormal"])
def test_a_misspelled_name_is_told_its_neighbor(name):
    with pytest.raises(ValueError, match=f"; did you mean '{name}'"):
        PARewired(f"{name}l")
    for alone in ("zzz", "constant"):  # Keras has one, but it needs a value.
        with pytest.raises(ValueError, match=f"Received: base='{alone}'$"):
            PARewired(alone)


def test_lambdas_warn_only_when_saved():
    wrapped = PARewired(BASES["lambda"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.clone()
    with pytest.warns(UserWarning, match="lambda"):
        keras.initializers.serialize(wrapped)


def test_code_may_read_what_it_expects_of_the_class():
    for name in ("scale", "mode", "distribution"):
        assert hasattr(PARewired(), name) and hasattr(Sinusoidal(), name)


class OfNumPy(keras.initializers.Initializer):
    """Draws in a dtype of its own."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __call__(self, shape, dtype=None):
        return np.random.normal(size=shape).astype(self.dtype)


@any_wrapper
@pytest.mark.parametrize(
    ("given", "dtype"),
    [("float64", "float32"), ("float16", "float32"), ("float64", "bfloat16")],
)
def test_a_kernel_has_the_dtype_of_its_layer(wrapper, given, dtype):
    base = OfNumPy(given)
    # A function, too.
    initializer = wrapper(base if given == "float16" else base.__call__)
    layer = layers.Dense(16, kernel_initializer=initializer, dtype=dtype)
    layer.build((None, 24))
    kernel = layer.kernel.value
    for values in (kernel, initializer(SHAPE, dtype=dtype)):
        assert keras.backend.standardize_dtype(values.dtype) == dtype
    if wrapper is PARewired:
        np.random.seed(0)
        drawn = ops.convert_to_tensor(OfNumPy(given)(SHAPE))
        assert_permutation(kernel, ops.cast(drawn, dtype))


@any_wrapper
def test_a_kernel_has_the_dtype_that_keras_defaults_to(wrapper):
    keras.config.set_floatx("bfloat16")
    try:
        dtype = keras.initializers.HeNormal(seed=0)(SHAPE).dtype
        kernel = wrapper("he_normal", seed=0)(SHAPE)
        assert kernel.dtype == rewire(kernel).dtype == dtype
    finally:
        keras.config.set_floatx("float32")


@any_wrapper
@pytest.mark.filterwarnings("ignore:`StrengthStabilized` needs a base")
def test_a_kernel_has_the_dtype_of_its_layer_in_fit(wrapper):
    layer = layers.Dense(4, kernel_initializer=wrapper(OfNumPy("float64")))
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 3)), np.ones((2, 4)), verbose=0)
    assert layer.kernel.dtype == "float32"


def as_json(config):
    return json.loads(json.dumps(config))


@pytest.mark.parametrize("form", [dict, as_json])
def test_a_config_with_another_seed_makes_what_that_seed_makes(form):
    config = form(PARewired("he_normal", seed=0).get_config())
    changed = PARewired.from_config({**config, "seed": 5})
    assert_same(changed(SHAPE), PARewired("he_normal", seed=5)(SHAPE))
    unseeded = PARewired.from_config({**config, "seed": None})
    assert not np.array_equal(
        np.sort(ops.convert_to_numpy(unseeded(SHAPE)), axis=None),
        np.sort(ops.convert_to_numpy(changed(SHAPE)), axis=None),
    )
    assert unseeded.get_config()["base"]["config"]["seed"] is None


@pytest.mark.parametrize(
    "base",
    [
        PARewired("he_normal", seed=0),
        PARewired(keras.initializers.HeNormal(seed=0)),
    ],
    ids=["seeded wrapper", "seeded base"],
)
def test_candidates_of_a_wrapper_have_other_values(base):
    drawn = [
        StrengthStabilized(base, candidates=candidates, seed=1)(SHAPE)
        for candidates in (1, 50)
    ]
    one, best = (np.sort(ops.convert_to_numpy(x), axis=None) for x in drawn)
    assert not np.array_equal(one, best)


def test_an_inner_base_keeps_a_seed_of_its_own():
    base = keras.initializers.HeNormal(seed=0)
    wrapped = PARewired(StrengthStabilized(base, candidates=1), seed=5)
    assert_permutation(wrapped(SHAPE), base(SHAPE))


def test_a_seed_of_numpy_in_a_base_seeds_the_rewiring():
    assert PARewired(Unregistered(seed=np.int64(3))).seed == 3
