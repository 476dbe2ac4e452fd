import random

import keras
import numpy as np
import pytest
from helpers import as_array, assert_permutation, assert_same, bits
from keras import ops

from keras_parewire import (
    Centered,
    PARewired,
    Sinusoidal,
    StrengthStabilized,
    rewire,
    strength_variance,
)
from keras_parewire.rewiring.seeding import derive_seed

SHAPE = (24, 16)
WRAPPERS = [
    PARewired,
    lambda *a, **k: StrengthStabilized(*a, candidates=5, **k),
]
wrappers = pytest.mark.parametrize(
    "wrapper", WRAPPERS, ids=["PARewired", "StrengthStabilized"]
)


def differ(one, other):
    return not np.array_equal(bits(one), bits(other))


@wrappers
@pytest.mark.parametrize("seed", [0, None, np.int64(3), np.uint8(3)])
def test_int_and_none_repeat(wrapper, seed):
    initializer = wrapper("he_normal", seed=seed)
    assert_same(initializer(SHAPE), initializer(SHAPE))


@pytest.mark.parametrize("seed", [-1, 2**31, 2**63])
def test_any_integer_seeds_the_rewiring(seed, kernel):
    # Which of them a random base can take is up to Keras' backend.
    tensor = ops.convert_to_tensor(kernel)
    initializer = PARewired(lambda shape, dtype=None: tensor, seed=seed)
    assert_same(initializer(kernel.shape), rewire(kernel, seed=seed))
    assert differ(rewire(kernel, seed=seed), rewire(kernel, seed=0))


@wrappers
def test_seed_generator_varies(wrapper):
    generator = keras.random.SeedGenerator(1)
    initializer = wrapper("he_normal", seed=generator)
    one, other = initializer(SHAPE), initializer(SHAPE)
    # The base varies too, not only the places of its values.
    assert differ(*(np.sort(as_array(k), axis=None) for k in (one, other)))
    again = wrapper("he_normal", seed=keras.random.SeedGenerator(1))
    assert_same(one, again(SHAPE))


def run_twice_traced(function, generator):
    """Calls a function twice in a compiled program."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            return tf.function(lambda: [function(), function()])()
        case "jax":
            import jax

            @jax.jit
            def stateless(state):
                pairs = [(generator.state, state)]
                with keras.StatelessScope(pairs) as scope:
                    results = [function(), function()]
                return results, scope.get_current_value(generator.state)

            results, state = stateless(generator.state.value)
            generator.state.assign(state)
            return results
        case "torch":
            pytest.skip("PyTorch runs everything eagerly")


def drawn(shape, dtype=None):
    return keras.random.normal(shape, dtype=dtype, seed=3)


class OtherLibrary(keras.initializers.Initializer):
    """Takes a seed, but draws from NumPy."""

    seed = None

    def __call__(self, shape, dtype=None):
        return np.random.default_rng(3).normal(size=shape)

    def get_config(self):
        return {"seed": self.seed}

    @classmethod
    def from_config(cls, config):
        initializer = cls()
        initializer.seed = config["seed"]
        return initializer


# What takes a seed for nothing, and what takes none.
IDLE_BASES = {
    "function": lambda: drawn,
    "sinusoidal": Sinusoidal,
    "seeded": lambda: keras.initializers.HeNormal(seed=3),
    "other library": OtherLibrary,
    "centered seeded": lambda: Centered(keras.initializers.HeNormal(seed=3)),
    "centered function": lambda: Centered(drawn),
    "centered sinusoidal": lambda: Centered(Sinusoidal()),
    "stabilized function": lambda: StrengthStabilized(drawn, candidates=2),
    "nested": lambda: PARewired(Centered(Centered(OtherLibrary()))),
}


def assert_used_twice(generator, seed):
    """Asserts one state a call, as a stock initializer takes."""
    stock = keras.random.SeedGenerator(seed)
    stock.next(), stock.next()
    np.testing.assert_array_equal(
        as_array(generator.state), as_array(stock.state)
    )


@pytest.mark.filterwarnings("ignore:`StrengthStabilized` needs a base")
@pytest.mark.parametrize("make", IDLE_BASES.values(), ids=list(IDLE_BASES))
def test_a_generator_moves_on_whatever_the_base(make):
    generator = keras.random.SeedGenerator(1)
    initializer = PARewired(make(), seed=generator)
    one, other = initializer(SHAPE), initializer(SHAPE)
    assert_permutation(one, other)
    assert differ(one, other)
    assert_used_twice(generator, 1)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["rewire", "centered seeded", "paired"])
def test_traced_seed_generator_is_used_as_if_concrete(kernel, case):
    def use(generator):
        if case == "rewire":
            return rewire(kernel, seed=generator)
        # Its own draw takes the state, or nothing does.
        base = "he_normal" if case == "paired" else IDLE_BASES[case]()
        return PARewired(base, seed=generator)(SHAPE)

    eager, traced = (keras.random.SeedGenerator(7) for _ in range(2))
    expected = use(eager), use(eager)
    assert differ(*expected)
    results = run_twice_traced(lambda: use(traced), traced)
    for one, other in zip(results, expected, strict=True):
        if case == "centered seeded":  # Equal up to rounding.
            np.testing.assert_allclose(
                np.sort(as_array(one), axis=None),
                np.sort(as_array(other), axis=None),
                atol=1e-6,
            )
        else:
            assert_same(one, other)
    for generator in (eager, traced):
        assert_used_twice(generator, 7)


@wrappers
def test_seed_generator_with_a_seeded_base(wrapper):
    base = keras.initializers.HeNormal(seed=3)
    initializer = wrapper(base, seed=keras.random.SeedGenerator(1))
    assert differ(initializer(SHAPE), initializer(SHAPE))


def test_base_with_a_seed_generator():
    base = keras.initializers.HeNormal(seed=keras.random.SeedGenerator(1))
    for wrapper in WRAPPERS:
        initializer = wrapper(base)
        assert differ(initializer(SHAPE), initializer(SHAPE))


@wrappers
def test_clones(wrapper):
    unseeded = wrapper("he_normal")
    assert differ(unseeded(SHAPE), unseeded.clone()(SHAPE))
    seeded = wrapper("he_normal", seed=0)
    assert_same(seeded(SHAPE), seeded.clone()(SHAPE))
    assert differ(seeded(SHAPE), wrapper("he_normal", seed=1)(SHAPE))


@wrappers
def test_int_seed_makes_everything_reproducible(wrapper):
    keras.utils.set_random_seed(1)
    one = wrapper("he_normal", seed=5)(SHAPE)
    keras.utils.set_random_seed(2)
    shared = keras.initializers.HeNormal()
    assert_same(one, wrapper(shared, seed=5)(SHAPE))
    # The user's own instance stays unseeded.
    assert shared.get_config()["seed"] is None
    assert_same(shared(SHAPE), shared(SHAPE))


def test_base_with_a_seed_of_its_own_kind():
    class Custom(keras.initializers.Initializer):
        seed = "mine"

        def __call__(self, shape, dtype=None):
            return keras.random.normal(shape, dtype=dtype, seed=1)

    initializer = PARewired(Custom())
    assert_same(initializer(SHAPE), initializer(SHAPE))


def test_values_are_those_of_the_base():
    for seed in (0, 9):
        plain = keras.initializers.HeNormal(seed=seed)(SHAPE)
        assert_permutation(PARewired("he_normal", seed=seed)(SHAPE), plain)
        one = StrengthStabilized("he_normal", candidates=1, seed=seed)
        assert_same(one(SHAPE), plain)
    base = keras.initializers.HeNormal(seed=1)
    assert_permutation(PARewired(base, seed=2)(SHAPE), base(SHAPE))
    assert differ(PARewired(base, seed=2)(SHAPE), PARewired(base)(SHAPE))


def build_model(wrap):
    keras.utils.set_random_seed(11)
    x = inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(8, 3, kernel_initializer=wrap("orthogonal"))(x)
    x = keras.layers.Reshape((-1, 8))(x)
    x = keras.layers.MultiHeadAttention(
        2, 4, kernel_initializer=wrap("glorot_uniform")
    )(x, x)
    x = keras.layers.GroupQueryAttention(
        4, 2, 2, kernel_initializer=wrap("lecun_normal")
    )(x, x)
    x = keras.layers.Bidirectional(
        keras.layers.LSTM(
            6,
            kernel_initializer=wrap("glorot_uniform"),
            recurrent_initializer=wrap("orthogonal"),
        )
    )(x)
    for base in (keras.initializers.VarianceScaling, "ones"):
        x = keras.layers.Dense(20, kernel_initializer=wrap(base))(x)
    return keras.Model(inputs, x)


@pytest.mark.slow
def test_wrapped_model_is_paired_with_the_plain_one():
    plain, wrapped = build_model(lambda base: base), build_model(PARewired)
    moved = 0
    for one, other in zip(plain.weights, wrapped.weights, strict=True):
        assert_permutation(one.value, other.value)
        moved += differ(one.value, other.value)
    assert moved == 1 + 2 * 4 + 4 + 1


def constant(shape, dtype=None):
    return ops.ones(shape, dtype)


LAYERS = {
    "SimpleRNN": lambda wrap: keras.layers.SimpleRNN(
        4,
        kernel_initializer=wrap(keras.initializers.GlorotUniform()),
        recurrent_initializer=wrap(keras.initializers.Orthogonal()),
    ),
    "LSTM, recurrent only": lambda wrap: keras.layers.LSTM(
        4,
        kernel_initializer=keras.initializers.GlorotUniform(),
        recurrent_initializer=wrap(keras.initializers.Orthogonal()),
    ),
    "ConvLSTM2D": lambda wrap: keras.layers.ConvLSTM2D(
        4,
        2,
        kernel_initializer=wrap(keras.initializers.GlorotUniform()),
        recurrent_initializer=wrap(keras.initializers.Orthogonal()),
    ),
    "SeparableConv2D, pointwise only": lambda wrap: (
        keras.layers.SeparableConv2D(
            4,
            2,
            depthwise_initializer=keras.initializers.GlorotUniform(),
            pointwise_initializer=wrap(keras.initializers.GlorotUniform()),
        )
    ),
    "base without a seed": lambda wrap: keras.layers.Dense(
        4, kernel_initializer=wrap(constant)
    ),
    "array": lambda wrap: keras.layers.Dense(
        4, kernel_initializer=wrap(keras.initializers.Constant(2.0))
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_instances_in_both_models_are_paired(name):
    """Whatever the layer, if its initializers are made in the same place."""
    shapes = {"SimpleRNN": (3, 5), "ConvLSTM2D": (3, 6, 6, 5)}
    shapes["LSTM, recurrent only"] = (3, 5)
    shape = shapes.get(name, (6, 6, 5))

    def build(wrap):
        keras.utils.set_random_seed(11)
        inputs = keras.Input(shape)
        x = LAYERS[name](wrap)(inputs)
        return keras.Model(inputs, keras.layers.Dense(9)(x))

    plain, wrapped = build(lambda base: base), build(PARewired)
    for one, other in zip(plain.weights, wrapped.weights, strict=True):
        assert_permutation(one.value, other.value)


@pytest.mark.parametrize("seed", [None, 4])
@wrappers
def test_global_random_state_is_that_of_a_plain_initializer(wrapper, seed):
    def states(make):
        keras.utils.set_random_seed(3)
        make(seed=seed)(SHAPE)
        uniform = keras.random.uniform((3,))
        return random.random(), np.random.random(), float(uniform[0])

    plain = states(keras.initializers.HeNormal)
    assert states(lambda seed: wrapper("he_normal", seed=seed)) == plain


@pytest.mark.any_backend
def test_derived_seeds_differ():
    seeds = {derive_seed(seed, k) for seed in range(50) for k in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_rewire_without_a_seed_draws_anew(kernel):
    keras.utils.set_random_seed(1)
    one, other = rewire(kernel), rewire(kernel)
    assert differ(one, other)
    keras.utils.set_random_seed(1)
    assert_same(rewire(kernel), one)


def test_rewire_is_the_same_on_every_backend():
    # A golden result: NumPy alone decides it.
    kernel = np.arange(12, dtype="float32").reshape(4, 3)
    expected = [[0, 4, 5], [8, 3, 7], [10, 2, 6], [11, 1, 9]]
    np.testing.assert_array_equal(as_array(rewire(kernel, seed=0)), expected)


@pytest.mark.parametrize("seed", [1.5, "0", [1]])
def test_wrong_seeds(seed, kernel):
    message = "`seed` must be an integer, .* Received: seed="
    for function in (
        lambda: PARewired(seed=seed),
        lambda: StrengthStabilized(seed=seed),
        lambda: rewire(kernel, seed=seed),
    ):
        with pytest.raises(TypeError, match=message):
            function()


def test_a_shared_generator_stays_paired():
    """Layers that share a generator draw the same values with and without."""

    def draw(wrap):
        generator = keras.random.SeedGenerator(5)
        kernels = [
            wrap("he_normal", seed=generator)(SHAPE),
            wrap("orthogonal", seed=generator)(SHAPE),
        ]
        return kernels, as_array(generator.state)

    def plain(base, seed):
        config = {"class_name": base, "config": {"seed": seed}}
        return keras.initializers.get(config)

    (kernels, state), (rewired, after) = draw(plain), draw(PARewired)
    for one, other in zip(kernels, rewired, strict=True):
        assert_permutation(one, other)
        assert differ(one, other)
    np.testing.assert_array_equal(state, after)


@wrappers
@pytest.mark.parametrize(
    "base",
    [
        "he_normal",
        keras.initializers.HeNormal(),
        keras.initializers.HeNormal(seed=4),
        lambda: "an instance",
    ],
    ids=["name", "unseeded", "seeded", "nested"],
)
@pytest.mark.parametrize("first", [None, 3])
def test_a_seed_that_is_set_later(wrapper, base, first):
    if not isinstance(base, str | keras.initializers.Initializer):
        base = PARewired("he_normal")
    initializer = wrapper(base, seed=first)
    initializer(SHAPE)
    initializer.seed = 5
    assert_same(initializer(SHAPE), wrapper(base, seed=5)(SHAPE))
    initializer.seed = generator = keras.random.SeedGenerator(2)
    assert differ(initializer(SHAPE), initializer(SHAPE))
    assert generator.state is initializer.seed.state


@pytest.mark.backend("jax")
@pytest.mark.parametrize("typed", [False, True])
def test_a_key_of_jax_as_seed(typed):
    import jax

    make_key = jax.random.key if typed else jax.random.PRNGKey

    def draw(initializer, number):
        initializer.seed = make_key(number)
        return initializer(SHAPE)

    plain = [draw(keras.initializers.HeNormal(), n) for n in (0, 0, 1)]
    rewired = [draw(PARewired("he_normal"), n) for n in (0, 0, 1)]
    for one, other in zip(plain, rewired, strict=True):
        assert_permutation(one, other)
    assert_same(rewired[0], rewired[1])
    stabilized = [
        draw(StrengthStabilized("he_normal", candidates=5), n) for n in (0, 0)
    ]
    assert_same(*stabilized)
    assert strength_variance(stabilized[0]) <= strength_variance(plain[0])

    def traced(key):
        initializer = PARewired("he_normal")
        initializer.seed = key
        return initializer(SHAPE)

    if typed:
        assert_same(jax.jit(traced)(make_key(0)), rewired[0])
