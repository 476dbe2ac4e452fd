import sys

import keras
import laperm
import numpy as np
import pytest
from helpers import as_array, assert_same
from keras import layers
from laperm import Watch, make_model, reestimate_statistics
from laperm_pools import random_prune, share_value

from keras_parewire import LookaheadPermutation

pytestmark = pytest.mark.any_backend

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 12), np.float32)
Y = RNG.standard_normal((40, 3), np.float32)


def small_model():
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(64, "relu"),
            layers.BatchNormalization(),
            layers.Dense(32),
            layers.Dense(3),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


def kernels(model):
    return [np.array(as_array(v)) for v in model.weights if v.name == "kernel"]


def others(model):
    return [np.array(as_array(v)) for v in model.weights if v.name != "kernel"]


def test_random_prune():
    model = small_model()
    before, untouched = kernels(model), others(model)
    random_prune(model, 0.7, seed=0)
    for kernel, start, sparsity in zip(
        kernels(model), before, (0.2, 0.7, 0.7), strict=True
    ):
        assert abs((kernel == 0).mean() - sparsity) < 0.1
        assert_same(kernel[kernel != 0], start[kernel != 0])
        assert_same(kernel[kernel == 0], np.zeros_like(kernel[kernel == 0]))
    for one, other in zip(others(model), untouched, strict=True):
        assert_same(one, other)
    # The same places on every backend.
    mask = "".join(map(str, (kernels(model)[1][0] != 0).astype(int)))
    assert mask == "10000100000000100010001000100001"


def test_share_value():
    model = small_model()
    untouched = others(model)
    share_value(model, 0.08, 0.4, seed=0)
    for kernel in kernels(model)[:2]:
        assert set(np.unique(kernel)) == {0, np.float32(0.08)}
        assert abs((kernel == 0).mean() - 0.4) < 0.05
    for one, other in zip(others(model), untouched, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    "make_sparse",
    [
        lambda model: random_prune(model, 0.7, seed=0),
        lambda model: share_value(model, 0.1, 0.5, seed=0),
    ],
)
def test_training_keeps_the_sparsity_of_each_neuron(make_sparse):
    model = small_model()
    make_sparse(model)
    before = kernels(model)
    permutation = LookaheadPermutation(4)
    model.fit(X, Y, 4, 2, verbose=0, callbacks=[permutation])
    moved = 0
    for kernel, start in zip(kernels(model), before, strict=True):
        np.testing.assert_array_equal(
            (kernel != 0).sum(axis=0), (start != 0).sum(axis=0)
        )
        moved += ((kernel != 0) != (start != 0)).sum()
    assert moved


@pytest.mark.parametrize(
    ("make_sparse", "text"),
    [
        (lambda m: random_prune(m, 1.0, 0), r"`sparsity` must.*sparsity=1\.0"),
        (lambda m: random_prune(m, 0.5, 0, -1), "`first_sparsity` must"),
        (lambda m: share_value(m, np.inf, 0.5, 0), "value=inf"),
        (lambda m: share_value(m, 0, 0.5, 0), "`value` must be"),
    ],
)
def test_arguments_out_of_range(make_sparse, text):
    model = small_model()
    before = kernels(model)
    with pytest.raises(ValueError, match=text):
        make_sparse(model)
    for one, other in zip(kernels(model), before, strict=True):
        assert_same(one, other)


@pytest.mark.slow
def test_arms_start_from_the_same_draw():
    plain, *arms = (
        make_model("digits", arm, seed=3)
        for arm in ("laperm", "adam", "pa-laperm", "sparse-laperm")
    )
    adam, rewired, sparse = map(kernels, arms)
    for number, kernel in enumerate(kernels(plain)):
        assert_same(adam[number], kernel)
        assert_same(np.sort(rewired[number], None), np.sort(kernel, None))
        kept = sparse[number] != 0
        assert_same(sparse[number][kept], kernel[kept])
    assert 0.4 < (sparse[2] == 0).mean() < 0.6


@pytest.mark.slow
def test_reestimated_statistics_are_those_of_the_images():
    model = small_model()
    model.fit(X, Y, 4, 2, verbose=0)
    images = np.concatenate([X, X + 1, X[:20]])  # In batches of 50.
    reestimate_statistics(model, images)
    inputs = as_array(model.layers[0](images)).reshape(2, 50, -1)
    normalization = model.layers[1]
    assert normalization.momentum == 0.99
    np.testing.assert_allclose(
        as_array(normalization.moving_mean),
        inputs.mean(axis=(0, 1)),
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        as_array(normalization.moving_variance),
        inputs.var(axis=1).mean(axis=0),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.slow
def test_measuring_changes_nothing():
    images = RNG.integers(17, size=(100, 8, 8, 1)).astype("uint8")
    labels = RNG.integers(10, size=100)
    model = make_model("digits", "laperm", seed=1)
    model.fit(images, labels, 50, verbose=0)
    before = [np.array(as_array(v)) for v in model.variables]
    assert any("seed" in variable.path for variable in model.variables)
    watch = Watch(images, (images, labels), keras.utils.Progbar(1, verbose=0))
    watch.set_model(model)
    watch.set_params({"steps": 2})
    watch.on_epoch_begin(0)
    for batch in (0, 1):
        watch.on_train_batch_end(batch)
        watch.after(batch)
    for variable, values in zip(model.variables, before, strict=True):
        assert_same(variable, values)
    (after,), (reestimated,) = watch.after_sync, watch.reestimated
    assert watch.before_sync == [after] and after != reestimated


@pytest.mark.slow
def test_the_script(tmp_path, monkeypatch, capsys):
    arguments = ["--seeds", "0", "--epochs", "1", "--out", str(tmp_path)]
    arguments += ["--arms", "laperm,pa-laperm"]
    monkeypatch.setattr(sys, "argv", ["laperm.py", *arguments])
    laperm.main()
    assert "pa-laperm" in capsys.readouterr().out
    assert (tmp_path / "laperm-digits.png").exists()
    rows = (tmp_path / "laperm.csv").read_text()
    assert rows.count("\n") == 3
    # Finished runs are not repeated: their seconds are those of the first time.
    laperm.main()
    assert (tmp_path / "laperm.csv").read_text() == rows
