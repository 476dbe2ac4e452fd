"""The initializer that takes the strengths out of a base."""

import json

import keras
import numpy as np
import pytest
from helpers import as_array, assert_same
from keras import layers, ops

from keras_parewire import (
    Centered,
    PARewired,
    reinitialize,
    strength_report,
    strength_variance,
    strengths,
)

SHAPE = (48, 32)


def row_plus_column(shape, dtype=None):
    count = int(np.prod(shape))
    return ops.reshape(0.1 * ops.arange(count, dtype="float32"), shape)


def by_definition(kernel):
    """As the docstring says, in float64."""
    matrix = as_array(kernel).astype("float64").reshape(-1, kernel.shape[-1])
    centered = matrix - matrix.mean(axis=1, keepdims=True)
    centered = centered - matrix.mean(axis=0) + matrix.mean()
    return (centered * matrix.std() / centered.std()).reshape(kernel.shape)


@pytest.mark.parametrize(
    ("shape", "base"),
    [
        (SHAPE, "he_normal"),
        ((7, 33), "glorot_uniform"),
        ((2, 2), "he_normal"),
        ((3, 3, 5, 8), "orthogonal"),
    ],
)
def test_strengths_are_zero_and_the_spread_stays(shape, base):
    plain = keras.initializers.get({"class_name": base, "config": {"seed": 1}})(
        shape
    )
    kernel = Centered(base, seed=1)(shape)
    np.testing.assert_allclose(
        as_array(kernel), by_definition(plain), rtol=1e-4, atol=1e-6
    )
    for side in strengths(kernel):
        np.testing.assert_allclose(side, 0, atol=2e-6)
    assert as_array(kernel).std() == pytest.approx(
        as_array(plain).std(), rel=1e-5
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_dtype(dtype):
    kernel = Centered("he_normal", seed=1)(SHAPE, dtype=dtype)
    plain = keras.initializers.HeNormal(seed=1)(SHAPE, dtype=dtype)
    assert keras.backend.standardize_dtype(kernel.dtype) == dtype
    assert strength_variance(kernel) < strength_variance(plain) / 1000
    expected = ops.cast(by_definition(ops.cast(plain, "float32")), dtype)
    np.testing.assert_allclose(
        as_array(ops.cast(kernel, "float32")),
        as_array(ops.cast(expected, "float32")),
        rtol=2e-2,
        atol=1e-3,
    )


@pytest.mark.slow
@pytest.mark.parametrize("values", ["normal", "ones", "sum"])
def test_a_compiled_program_differs_by_rounding(values):
    shape = (3, 3, 8, 16)
    fixed = {
        "normal": keras.random.normal(shape, seed=0),
        "ones": ops.ones(shape),
        "sum": row_plus_column(shape),
    }[values]

    def draw(tensor):
        # As most bases end. Compilers fuse this product with the first sum.
        return Centered(lambda shape, dtype=None: 0.7 * tensor)(shape)

    expected = as_array(draw(fixed))
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            compiled = [tf.function(draw), tf.function(draw, jit_compile=True)]
        case "jax":
            import jax

            compiled = [jax.jit(draw)]
        case "torch":
            import torch

            compiled = [torch.compile(draw, backend="eager")]
    for function in compiled:
        np.testing.assert_allclose(function(fixed), expected, atol=5e-7)


@pytest.mark.parametrize(
    ("shape", "base"),
    [
        ((1, 9), "he_normal"),
        ((9, 1), "he_normal"),
        (SHAPE, keras.initializers.Constant(0.1)),
        (SHAPE, "zeros"),
        (SHAPE, row_plus_column),
    ],
)
def test_what_has_nothing_left_stays(shape, base):
    initializer = Centered(base, seed=1)
    plain = initializer.base
    if base == "he_normal":
        plain = keras.initializers.HeNormal(seed=1)
    assert_same(initializer(shape), plain(shape, dtype="float32"))


@pytest.mark.parametrize("shape", [(64, 64), (64, 256)])
def test_what_an_orthogonal_base_loses(shape):
    # The figures of the docstring.
    kernel = as_array(Centered("orthogonal", seed=0)(shape))
    *others, second, last = np.linalg.svd(kernel, compute_uv=False)
    n, larger = sorted(shape)
    assert last < 1e-5
    assert second == pytest.approx(np.sqrt(1 - n / larger), abs=0.1)
    expected = 1 + (1 + n / larger) / (2 * n)
    np.testing.assert_allclose(others, expected, atol=2e-3)


def test_saved_and_loaded():
    initializer = Centered("he_normal", input_axes=[0], output_axes=[1], seed=3)
    config = json.loads(json.dumps(keras.initializers.serialize(initializer)))
    assert config["registered_name"] == "keras_parewire>Centered"
    restored = keras.initializers.deserialize(config)
    assert_same(restored(SHAPE), initializer(SHAPE))
    assert restored.get_config() == initializer.get_config()
    nested = PARewired(Centered("he_normal"), seed=3)
    assert_same(nested.clone()(SHAPE), nested(SHAPE))


def test_attention_is_centered_along_its_axes():
    layer = layers.MultiHeadAttention(2, 4, kernel_initializer=Centered())
    layer(np.ones((1, 3, 8)), np.ones((1, 3, 8)))
    rows = [row for row in strength_report(layer) if row.skipped is None]
    assert len(rows) == 4
    for row in rows:
        assert row.before < 1e-10


def test_groups_of_a_model_are_centered_one_by_one():
    model = keras.Sequential(
        [
            keras.Input((6, 8)),
            layers.Conv1D(12, 3, groups=4),
            layers.Conv1DTranspose(5, 2),
        ]
    )
    report = reinitialize(
        model, kernel_initializer=Centered("he_normal"), seed=0
    )
    assert report[0].groups == 4
    for layer in model.layers:
        kernel = as_array(layer.kernel)
        assert np.abs(kernel).max() > 0.1
    for row in strength_report(model):
        assert row.skipped or row.before < 1e-10


@pytest.mark.backend("jax")
def test_the_same_bits_on_a_mesh(model_parallel):
    def make():
        layer = layers.Dense(
            32, kernel_initializer=Centered("he_normal", seed=1)
        )
        layer.build((None, 48))
        return layer.kernel

    sharded = make()
    assert not sharded.value.sharding.is_fully_replicated
    keras.distribution.set_distribution(None)
    assert_same(as_array(sharded), as_array(make()))


def test_weights_that_are_not_finite():
    with pytest.raises(ValueError, match=r"finite.*Received.*NaN"):
        Centered(lambda shape, dtype=None: np.full(shape, np.nan))((3, 4))
