import functools
import weakref

import keras
import numpy as np
import pytest
from helpers import assert_permutation, assert_same
from keras import ops

from keras_parewire import (
    PARewired,
    StrengthStabilized,
    rewire,
    strength_variance,
    strengths,
)
from keras_parewire.initializers import strength_stabilized
from keras_parewire.initializers.bases import draw_from_base
from keras_parewire.rewiring.matrix_view import matrix_view

SHAPE = (48, 32)
BASES = {
    "name": "orthogonal",
    "class": keras.initializers.HeNormal,
    "instance": keras.initializers.RandomUniform(-1.0, 1.0),
    "config": {"class_name": "GlorotNormal", "config": {}},
    "function": lambda shape, dtype=None: keras.random.normal(
        shape, dtype=dtype
    ),
    "function of NumPy": lambda shape, dtype=None: np.random.default_rng(
        0
    ).standard_normal(shape, np.float32),
    "ones": "ones",
    "PARewired": PARewired("he_normal"),
    "StrengthStabilized": StrengthStabilized("he_normal", candidates=3),
}
WRAPPERS = {
    "PARewired": PARewired,
    "StrengthStabilized": functools.partial(StrengthStabilized, candidates=3),
}


def table(argument, entries):
    return pytest.mark.parametrize(
        argument, list(entries.values()), ids=list(entries)
    )


@table("wrapper", WRAPPERS)
@table("base", BASES)
@pytest.mark.filterwarnings("ignore:`StrengthStabilized` needs a base")
def test_any_base(wrapper, base):
    initializer = wrapper(base)
    values = initializer(SHAPE)
    assert ops.is_tensor(values)
    assert tuple(values.shape) == SHAPE
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    layer = keras.layers.Dense(SHAPE[1], kernel_initializer=initializer)
    layer.build((None, SHAPE[0]))
    assert layer.kernel.shape == SHAPE


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("float16", SHAPE),
        ("bfloat16", (2, 3, 8, 32)),
        ("float32", (2, 3, 8, 32)),
    ],
)
def test_permutation_of_the_base_in_every_dtype(dtype, shape):
    # Keras has no orthogonal base in half types.
    base = "orthogonal" if dtype == "float32" else "he_normal"
    plain = keras.initializers.get({"class_name": base, "config": {"seed": 3}})(
        shape, dtype
    )
    for options in ({}, {"exponent": 2.5}):
        values = PARewired(base, seed=3, **options)(shape, dtype=dtype)
        assert keras.backend.standardize_dtype(values.dtype) == dtype
        assert_permutation(values, plain)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX has no float64 by default"
)
def test_float64_is_kept():
    values = np.random.default_rng(0).standard_normal(SHAPE)
    assert_permutation(rewire(values, seed=0), values)
    base = keras.initializers.HeNormal(seed=1)
    drawn = PARewired(base)(SHAPE, dtype="float64")
    assert_permutation(drawn, base(SHAPE, dtype="float64"))


def test_nesting_in_the_authors_order():
    stabilized = StrengthStabilized("orthogonal", candidates=10, seed=1)
    both = PARewired(StrengthStabilized("orthogonal", candidates=10), seed=1)
    assert_permutation(both(SHAPE), stabilized(SHAPE))
    assert strength_variance(both(SHAPE)) < strength_variance(stabilized(SHAPE))


def test_the_best_candidate_wins():
    # More candidates on the same stream are never worse, and often better.
    totals = []
    for seed in range(10):
        variances = [
            strength_variance(
                StrengthStabilized("he_normal", candidates=k, seed=seed)(SHAPE)
            )
            for k in (1, 5, 20)
        ]
        assert all(np.diff(variances) <= 0)
        totals.append(variances)
    one, *_, twenty = np.sum(totals, axis=0)
    assert twenty < 0.85 * one


def test_candidates_are_different_draws():
    drawn = []

    def base(shape, dtype=None):
        drawn.append(keras.random.normal(shape, dtype=dtype))
        return drawn[-1]

    best = StrengthStabilized(base, candidates=20)(SHAPE)
    assert len({float(values[0, 0]) for values in drawn}) == len(drawn) == 20
    assert_same(best, min(drawn, key=strength_variance))


@pytest.mark.any_backend
def test_at_most_three_candidates_are_held(monkeypatch):
    drawn, held = [], []

    def recording(*arguments):
        held.append(sum(reference() is not None for reference in drawn))
        values = draw_from_base(*arguments)
        drawn.append(weakref.ref(values))
        return values

    monkeypatch.setattr(strength_stabilized, "draw_from_base", recording)
    StrengthStabilized("he_normal", candidates=20)(SHAPE)
    # With the one about to be drawn: the best, the last and the next.
    assert max(held) == 2


def test_a_base_that_cannot_vary():
    with pytest.warns(UserWarning, match=r"draws differ.* Received: base="):
        values = StrengthStabilized("ones", candidates=100)(SHAPE)
    assert_same(values, ops.ones(SHAPE))


def test_axes_reach_the_base():
    axes = {"input_axes": [0], "output_axes": [1, 2]}
    shape = (64, 8, 8)
    plain = keras.initializers.GlorotUniform(seed=1, **axes)(shape)
    wrapped = PARewired("glorot_uniform", seed=1, **axes)(shape)
    assert_permutation(wrapped, plain)
    nested = PARewired(
        StrengthStabilized("glorot_uniform", candidates=1), seed=1, **axes
    )
    assert_permutation(nested(shape), plain)
    # As for a layer whose axes are registered, with experts on the last axis.
    view = matrix_view(shape, [0], [1], groups=1)
    for wrapper in (
        PARewired("glorot_uniform", seed=1),
        PARewired(StrengthStabilized("glorot_uniform", candidates=1), seed=1),
    ):
        assert_permutation(
            wrapper.with_view(view, *axes.values())(shape), plain
        )
    # Axes of its own are the base's own business.
    base = keras.initializers.GlorotUniform(
        seed=1, input_axes=[1], output_axes=[0, 2]
    )
    assert_permutation(PARewired(base, **axes)(shape), base(shape))


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
def test_nothing_to_rewire(shape):
    plain = keras.initializers.HeNormal(seed=0)(shape)
    assert_same(PARewired("he_normal", seed=0)(shape), plain)


def test_equal_weights_are_no_error():
    assert_same(PARewired("ones")((5, 4)), np.ones((5, 4), "float32"))


def test_inputs_stay_untouched(kernel):
    before = kernel.copy()
    rewire(kernel, seed=0)
    np.testing.assert_array_equal(kernel, before)
    variable = keras.Variable(kernel)
    rewire(variable, seed=0)
    assert_same(variable.value, before)


@pytest.mark.backend("torch")
def test_parameters_of_torch(kernel):
    import torch

    parameter = torch.nn.Parameter(torch.tensor(kernel))
    rewired = rewire(parameter, seed=0)
    assert not rewired.requires_grad
    assert_permutation(rewired, kernel)


def nothing(shape, dtype=None):
    return None


def infinite(shape, dtype=None):
    return ops.full(shape, float("inf"), dtype)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda: PARewired(exponent=-1), ValueError, "exponent=-1"),
        (lambda: PARewired(exponent=float("nan")), ValueError, "exponent=nan"),
        (lambda: PARewired(exponent="high"), TypeError, "exponent='high'"),
        (lambda: rewire(1, exponent=-1), ValueError, "exponent=-1"),
        (lambda: StrengthStabilized(candidates=0), ValueError, "candidates=0"),
        (
            lambda: StrengthStabilized(candidates="all"),
            TypeError,
            "candidates='all'",
        ),
        (lambda: PARewired("nonsense"), ValueError, "base='nonsense'"),
        (lambda: PARewired(None), ValueError, "base=None"),
        (lambda: PARewired(5), ValueError, "base=5"),
        (
            lambda: PARewired({"class_name": "Foo", "config": {}}),
            ValueError,
            "base={'class_name': 'Foo'",
        ),
        (
            lambda: PARewired(lambda shape, dtype: np.ones((2, 3)))((3, 2)),
            ValueError,
            r"of shape \(2, 3\) for shape=\(3, 2\)",
        ),
        (lambda: PARewired(keras.layers.Dense(3)), ValueError, "base=<Dense"),
        (
            lambda: PARewired(nothing)((2, 3)),
            TypeError,
            r"initializer\(shape\)=None",
        ),
        (lambda: rewire(None), TypeError, "kernel=None"),
        (lambda: rewire(PARewired()), TypeError, "kernel=.*PARewired"),
        (lambda: strengths(PARewired()), TypeError, "kernel=.*PARewired"),
        (lambda: PARewired("he_normal")((2, 3), "int32"), ValueError, "int32"),
        (
            lambda: PARewired(infinite)((2, 3)),
            ValueError,
            "0 NaN and 6 infinite",
        ),
        (
            lambda: StrengthStabilized(infinite)((2, 3)),
            ValueError,
            "0 NaN and 6 infinite",
        ),
        (lambda: rewire([[np.nan, 1.0]]), ValueError, "1 NaN and 0 infinite"),
        (lambda: PARewired("ones")((2, 3), "int32"), ValueError, "dtype=int32"),
        (
            lambda: StrengthStabilized("ones")((2, 3), "int32"),
            ValueError,
            "dtype=int32",
        ),
        (lambda: rewire(np.ones((2, 3), "int8")), ValueError, "dtype=int8"),
    ],
)
def test_wrong_arguments(function, error, message):
    with pytest.raises(error, match=f"must .*Received: .*{message}"):
        function()
