import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cifar10.arms
import cifar10.data
import cifar10.layers
import cifar10.models
import cifar10.report
import cifar10.rows
import cifar10.summary
import cifar10.train
import cifar10.trainer
import keras
import numpy as np
import pytest
from keras import ops

from keras_parewire import Sinusoidal, strength_variance
from keras_parewire.studies.arms import initialize

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


ARMS = cifar10.arms.make_arms(candidates=6)


def make_options(folder, **changes):
    options = {
        "model": "mlp",
        "network": {},
        "base": None,
        "optimizer": "adamw",
        "arms": ["base", "pa"],
        "margin": None,
        "together": None,
        "seeds": [0],
        "epochs": 2,
        "batch_size": 8,
        "schedule": "onecycle",
        "learning_rate": None,
        "candidates": 6,
        "vary_order": False,
        "smoke": False,
        "out": folder,
    }
    return SimpleNamespace(**{**options, **changes})


def make_study(folder, **changes):
    options = make_options(folder, **changes)
    data = cifar10.data.synthetic(32, 16, 16)
    return cifar10.train.make_study(options, data, options.arms)


@pytest.fixture(scope="module")
def network():
    return cifar10.models.small_cnn("orthogonal")


def draw(network, arm, seed):
    """Returns a run's kernels."""
    initialize(network, ARMS[arm], seed)
    return [
        ops.convert_to_numpy(layer.kernel).copy()
        for layer in cifar10.arms.kernel_layers(network)
    ]


# Models.


def dense(inputs, outputs, bias=True):
    return inputs * outputs + bias * outputs


def sl_vit_parameters(width=192, depth=9, heads=12, hidden=384):
    patch = 4 * 4 * 3 * 5
    norm = 2 * width
    block = (
        2 * norm
        + dense(width, 3 * width, bias=False)
        + heads
        + dense(width, width)
        + dense(width, hidden)
        + dense(hidden, width)
    )
    tokens = 1 + (32 // 4) ** 2
    embedding = 2 * patch + dense(patch, width) + width + tokens * width
    return embedding + depth * block + norm + dense(width, 10)


def convmixer_parameters(width=256, depth=8, size=5, patch=2):
    norm = 2 * width
    stem = dense(patch * patch * 3, width) + norm
    depthwise = size * size * width + width + norm
    block = depthwise + dense(width, width) + norm
    return stem + depth * block + dense(width, 10)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50", 23_520_842),
        ("sl_vit", sl_vit_parameters()),
        ("convmixer", convmixer_parameters()),
        (
            "small_cnn",
            dense(27, 16) + dense(144, 32) + dense(288, 64) + 65_600 + 650,
        ),
        ("mlp", dense(3072, 500) + dense(500, 500) + dense(500, 10)),
    ],
)
def test_parameters_and_output_shapes(name, parameters):
    network = cifar10.models.RECIPES[name].build("he_normal")
    weights = network.trainable_variables
    assert sum(np.prod(weight.shape) for weight in weights) == parameters
    assert network.input_shape == (None, 32, 32, 3)
    assert network.output_shape == (None, 10)


@pytest.mark.any_backend
def test_base_reaches_every_kernel():
    for recipe in cifar10.models.RECIPES.values():
        layers = cifar10.arms.kernel_layers(recipe.build("lecun_uniform"))
        bases = [layer.kernel_initializer for layer in layers]
        assert {type(base) for base in bases} == {
            keras.initializers.LecunUniform
        }
        assert len(set(map(id, bases))) == len(layers)


@pytest.mark.any_backend
def test_shifted_patches():
    image = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    patches = cifar10.layers.ShiftedPatches(4)(image)
    patches = ops.convert_to_numpy(patches).reshape(2, 2, 4, 4, 5, 3)
    padded = np.pad(image[0], [(2, 2), (2, 2), (0, 0)])
    offsets = [(2, 2), (0, 0), (0, 4), (4, 0), (4, 4)]
    for copy, (top, left) in enumerate(offsets):
        for row, column in np.ndindex(2, 2):
            y, x = top + 4 * row, left + 4 * column
            np.testing.assert_array_equal(
                patches[row, column, :, :, copy], padded[y : y + 4, x : x + 4]
            )


@pytest.mark.any_backend
def test_locality_attention():
    x = np.random.default_rng(0).normal(size=(1, 5, 24)).astype(np.float32)
    layer = cifar10.layers.LocalityAttention(2)
    found = ops.convert_to_numpy(layer(x))
    for head in range(2):
        query, key, value = (
            x[0, :, start + 4 * head :][:, :4] for start in (0, 8, 16)
        )
        logits = query @ key.T / np.sqrt(4)
        np.fill_diagonal(logits, -np.inf)
        weights = np.exp(logits)
        weights /= weights.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(
            found[0, :, 4 * head :][:, :4], weights @ value, atol=1e-5
        )
    assert layer.count_params() == 2


@pytest.mark.any_backend
def test_depthwise_kernels_are_drawn_as_grouped_ones():
    initializer = cifar10.layers.ChannelsAsOutputs("orthogonal", seed=0)
    kernel = ops.convert_to_numpy(initializer((5, 5, 64, 1)))
    columns = kernel.reshape(25, 64)
    np.testing.assert_allclose(columns @ columns.T, np.eye(25), atol=1e-5)
    again = cifar10.layers.ChannelsAsOutputs.from_config(
        initializer.get_config()
    )
    np.testing.assert_array_equal(
        kernel, ops.convert_to_numpy(again((5, 5, 64, 1)))
    )


def test_variants_of_the_small_cnn():
    kinds = keras.layers.Activation, keras.layers.LayerNormalization
    network = cifar10.models.small_cnn(
        "he_normal", "gelu", "LayerNormalization", width=2, repeats=2
    )
    kernels = cifar10.arms.kernel_layers(network)
    assert [layer.kernel.shape[-1] for layer in kernels] == [
        *(32, 32, 64, 64, 128, 128),
        *(128, 10),
    ]
    assert network.input_shape == (None, 32, 32, 3)
    # All pre-activations but the logits are normalized.
    activations, norms = (
        [layer for layer in network.layers if isinstance(layer, kind)]
        for kind in kinds
    )
    assert {layer.activation for layer in activations} == {
        keras.activations.gelu
    }
    for kernel, norm, activation in zip(
        kernels[:-1], norms, activations, strict=True
    ):
        assert norm.input is kernel.output
        assert activation.input is norm.output


def test_positive_inputs_of_the_mlp():
    pixels = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    images = (pixels - cifar10.data.MEAN) / cifar10.data.DEVIATION
    first, second = (
        cifar10.models.mlp("he_normal", positive=whether)
        for whether in (False, True)
    )
    first.set_weights(second.get_weights())
    np.testing.assert_allclose(
        ops.convert_to_numpy(first(pixels)),
        ops.convert_to_numpy(second(images)),
        atol=1e-4,
    )


# Data and training.


@pytest.mark.any_backend
def test_split_is_fixed_and_disjoint():
    data, again = cifar10.data.synthetic(), cifar10.data.synthetic()
    parts = data.train, data.validation, data.test
    numbers = np.concatenate(parts)
    assert sorted(numbers) == list(range(len(data.images)))
    assert list(data.test) == sorted(data.test)
    np.testing.assert_array_equal(data.train, again.train)
    assert data.fingerprint == again.fingerprint
    other = cifar10.data.synthetic(train=24)
    assert data.fingerprint != other.fingerprint


@pytest.mark.any_backend
def test_data_directory_without_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="Received: data_dir="):
        cifar10.data.load(tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.any_backend
def test_images_are_normalized_cropped_and_flipped():
    images = cifar10.data.synthetic().images
    model = cifar10.trainer.OnDevice(keras.layers.Identity(), images)
    numbers = np.array([3, 0, 5] * 8, np.int32)
    mean, deviation = cifar10.trainer.MEAN, cifar10.trainer.DEVIATION
    plain = ops.convert_to_numpy(model(numbers))
    expected = (images[numbers] / 255 - mean) / deviation
    np.testing.assert_allclose(plain, expected, atol=1e-5)
    seen = set()
    augmented = ops.convert_to_numpy(model(numbers, training=True))
    for number, image in zip(numbers, augmented, strict=True):
        pixels = np.rint((image * deviation + mean) * 255).astype(int)
        padded = np.pad(images[number], [(4, 4), (4, 4), (0, 0)])
        crops = {
            (top, left, flip): padded[top : top + 32, left : left + 32][
                :, :: -1 if flip else 1
            ]
            for top in range(9)
            for left in range(9)
            for flip in (False, True)
        }
        found = [
            key for key, crop in crops.items() if np.array_equal(crop, pixels)
        ]
        assert len(found) == 1
        seen.update(found)
    assert {flip for *_, flip in seen} == {False, True}
    assert len(seen) > 15


@pytest.mark.any_backend
def test_epochs_are_permutations():
    train = np.arange(100, 110)
    order = cifar10.trainer.epoch_orders(train, 3, 8)
    epochs = order.reshape(3, 8)
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other = cifar10.trainer.epoch_orders(train, 3, 8, seed=1)
    assert not np.array_equal(order, other)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["constant", "cosine", "onecycle"])
def test_schedules(name):
    rate = cifar10.trainer.schedule(name, 0.1, 100)
    if name == "constant":
        assert rate == 0.1
        return
    rates = [float(rate(step)) for step in range(101)]
    np.testing.assert_allclose(max(rates), 0.1, rtol=1e-5)
    assert np.argmax(rates) == {"cosine": 0, "onecycle": 30}[name]
    assert rates[100] < 1e-6


@pytest.mark.any_backend
def test_a_warmup_is_the_start_of_a_long_schedule():
    rate = cifar10.trainer.schedule("warmup", 0.1, 5, 40, 100)
    rates = np.array([float(rate(step)) for step in range(101)])
    assert rates[0] <= 0.1 / 40
    np.testing.assert_allclose(np.diff(rates[:41], n=2), 0, atol=1e-6)
    np.testing.assert_allclose(rates[40], 0.1, rtol=1e-5)
    assert (np.diff(rates[40:]) < 0).all()
    np.testing.assert_allclose(rates[100], 0, atol=1e-6)


def make_tiny_network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.AveragePooling2D(8)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def make_trainer(**options):
    data = cifar10.data.synthetic(32, 16, 16)
    optimizer = lambda steps: keras.optimizers.AdamW(0.01)  # noqa: E731
    return cifar10.trainer.Trainer(data, 2, 8, optimizer, **options)


def test_runs_start_anew_and_their_order_varies_only_if_asked_for():
    runs = {}
    for vary in (False, True):
        network, trainer = make_tiny_network(), make_trainer(vary_order=vary)
        weights = network.get_weights()
        for seed in (0, 5, 0):
            network.set_weights(weights)
            runs.setdefault((vary, seed), []).append(trainer(network, seed))
    first, again = runs[False, 0]
    assert first == again == runs[False, 5][0]
    assert runs[True, 0] == [first, first]
    assert runs[True, 5][0]["epoch_2_loss"] != first["epoch_2_loss"]
    assert list(first) == [
        "epoch_1_loss",
        "epoch_2_loss",
        "epoch_1_accuracy",
        "epoch_2_accuracy",
        "epoch_1_val_accuracy",
        "epoch_2_val_accuracy",
        "test_accuracy",
        "strength_variance",
        "strength_kurtosis",
    ]


def test_layers_are_trained_in_training_mode():
    network, trainer = make_tiny_network(), make_trainer()
    [normalization] = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    trainer(network, 0)
    # It moves its statistics only in training mode.
    assert keras.ops.all(normalization.moving_mean != 0)


@pytest.mark.backend("tensorflow", "jax")
def test_another_compilation_is_an_error():
    network, trainer = make_tiny_network(), make_trainer()
    trainer(network, 0)
    traces = trainer.model.traces
    trainer(network, 1)
    assert trainer.model.traces == traces
    trainer.batch_size = 4
    with pytest.raises(RuntimeError, match="first run only"):
        trainer(network, 1)
    # Another network is another model.
    trainer.batch_size = 8
    trainer(make_tiny_network(), 1)


# Runs.


@pytest.mark.any_backend
def test_arms_are_paired(network):
    base = draw(network, "base", 3)
    for arm in ("pa", "shuffled", "greedy"):
        for one, other in zip(base, draw(network, arm, 3), strict=True):
            assert not np.array_equal(one, other)
            np.testing.assert_array_equal(
                np.sort(one, axis=None), np.sort(other, axis=None)
            )
    for one, other in zip(base, draw(network, "base", 4), strict=True):
        assert not np.array_equal(one, other)


@pytest.mark.any_backend
@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        lambda: cifar10.models.sl_vit("orthogonal", depth=1),
        lambda: cifar10.models.convmixer("orthogonal", width=32, depth=1),
    ],
    ids=["sl_vit", "convmixer"],
)
def test_whole_networks_are_drawn_anew_and_only_kernels_rewired(build):
    network = build()
    drawn = []
    for arm, seed in (("base", 0), ("base", 1), ("base", 0), ("pa", 0)):
        draw(network, arm, seed)
        drawn.append([ops.convert_to_numpy(w).copy() for w in network.weights])
    kernels = cifar10.arms.kernel_layers(network)
    kernels = {id(layer.kernel) for layer in kernels}
    random = ("kernel", "token", "positions")
    for weight, base, other, again, pa in zip(
        network.weights, *drawn, strict=True
    ):
        np.testing.assert_array_equal(base, again)
        assert np.array_equal(base, pa) == (id(weight) not in kernels)
        assert np.array_equal(base, other) == (weight.name not in random)


@pytest.mark.any_backend
def test_stabilized_starts_from_the_base_and_leaves_no_trace(
    network, monkeypatch
):
    layers = cifar10.arms.kernel_layers(network)
    before = [layer.kernel_initializer for layer in layers]
    base = draw(network, "base", 0)
    monkeypatch.setattr(cifar10.arms, "STABILIZED_CANDIDATES", 1)
    for one, other in zip(base, draw(network, "stabilized", 0), strict=True):
        np.testing.assert_array_equal(one, other)
    monkeypatch.setattr(cifar10.arms, "STABILIZED_CANDIDATES", 5)
    stabilized = draw(network, "stabilized", 0)
    assert any(
        strength_variance(other) < strength_variance(one)
        for one, other in zip(base, stabilized, strict=True)
    )
    rewired = draw(network, "pa_stabilized", 0)
    for one, other in zip(stabilized, rewired, strict=True):
        assert not np.array_equal(one, other)
        np.testing.assert_array_equal(
            np.sort(one, axis=None), np.sort(other, axis=None)
        )
    assert [layer.kernel_initializer for layer in layers] == before


@pytest.mark.any_backend
def test_centered(network):
    for arm, start in (("centered", "base"), ("pa_centered", "pa")):
        for before, after in zip(
            draw(network, start, 2), draw(network, arm, 2), strict=True
        ):
            before = before.reshape(-1, before.shape[-1])
            after = after.reshape(-1, after.shape[-1])
            np.testing.assert_allclose(after.sum(axis=0), 0, atol=1e-5)
            np.testing.assert_allclose(after.sum(axis=1), 0, atol=1e-5)
            np.testing.assert_allclose(after.std(), before.std(), rtol=1e-5)
            # It is still the same kernel, but for a tenth of it.
            correlation = np.corrcoef(before.ravel(), after.ravel())[0, 1]
            assert correlation > 0.9
        variance, kurtosis = cifar10.arms.strength_moments(network)
        assert variance < 1e-10
        # A number in any case, or the run would count as failed.
        assert kurtosis == 0


@pytest.mark.any_backend
@pytest.mark.parametrize(("arm", "axis"), [("outputs", 0), ("inputs", 1)])
def test_one_side_centered(network, arm, axis):
    for before, after in zip(
        draw(network, "base", 2), draw(network, arm, 2), strict=True
    ):
        before = before.reshape(-1, before.shape[-1])
        after = after.reshape(-1, after.shape[-1])
        np.testing.assert_allclose(after.sum(axis=axis), 0, atol=1e-5)
        np.testing.assert_allclose(after.std(), before.std(), rtol=1e-5)
        # The strengths of the other side are those of before, scaled.
        other = [kernel.sum(axis=1 - axis) for kernel in (before, after)]
        other[0] = other[0] - before.mean() * before.shape[1 - axis]
        assert np.corrcoef(*other)[0, 1] > 0.999


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arm", "rewired"),
    [
        ("pa_first", [True, False, False, False, False]),
        ("pa_last", [False, False, False, False, True]),
        ("pa_others", [False, True, True, True, False]),
    ],
)
def test_some_kernels_rewired(network, arm, rewired):
    drawn = [draw(network, name, 2) for name in ("base", "pa", arm)]
    for base, pa, found, whether in zip(*drawn, rewired, strict=True):
        assert not np.array_equal(base, pa)
        np.testing.assert_array_equal(found, pa if whether else base)


@pytest.mark.any_backend
def test_sinusoidal():
    network = cifar10.models.convmixer("orthogonal", width=32, depth=1)
    stem, depthwise, pointwise, logits = (
        layer for layer in network.layers if hasattr(layer, "kernel")
    )
    draw(network, "sinusoidal", 0)
    initializer = Sinusoidal()
    for layer in (stem, pointwise, logits):
        np.testing.assert_array_equal(
            layer.kernel, initializer(layer.kernel.shape)
        )
    # A grouped convolution from one channel to 32.
    kernel = ops.convert_to_numpy(initializer((5, 5, 1, 32)))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(depthwise.kernel)[..., 0], kernel[:, :, 0]
    )
    plain = ops.convert_to_numpy(pointwise.kernel)
    draw(network, "pa_sinusoidal", 0)
    rewired = ops.convert_to_numpy(pointwise.kernel)
    assert not np.array_equal(plain, rewired)
    np.testing.assert_array_equal(
        np.sort(plain, axis=None), np.sort(rewired, axis=None)
    )


@pytest.mark.any_backend
def test_lowest_and_highest(network):
    draws = [draw(network, "base", seed) for seed in range(6)]
    variances = [np.mean([*map(strength_variance, one)]) for one in draws]
    order = list(np.argsort(variances))
    picked = [("lowest", rank, order[rank]) for rank in range(6)]
    for arm, rank, seed in (*picked, ("highest", 0, order[-1])):
        found = draw(network, arm, rank)
        for one, other in zip(found, draws[seed], strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="Received: seed=6"):
        draw(network, "lowest", 6)


# Studies.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The options of a study that two calls have trained."""
    folder = tmp_path_factory.mktemp("trained")
    options = make_options(folder, model="small_cnn", seeds=[0, 1])
    data = cifar10.data.synthetic(32, 16, 16)
    cifar10.train.run_study(options, data)
    options = make_options(folder, model="small_cnn", arms=["shuffled"])
    cifar10.train.run_study(options, data)
    return options


@pytest.mark.any_backend
def test_rows_are_in_a_folder_and_in_one_file(trained):
    [folder] = [path for path in trained.out.iterdir() if path.is_dir()]
    assert re.fullmatch("cifar10-small_cnn-[0-9a-f]{8}", folder.name)
    section = cifar10.rows.read(folder.with_suffix(".csv"))
    assert [(row["arm"], row["seed"]) for row in section.rows] == [
        ("base", 0),
        ("pa", 0),
        ("shuffled", 0),
        ("base", 1),
        ("pa", 1),
    ]
    assert section.stem == folder.name
    assert section.config["model"] == "small_cnn"
    assert section.device
    for row in section.rows:
        assert row["error"] is None
        assert list(row["metrics"])[6:10] == [
            "test_accuracy",
            "strength_variance",
            "strength_kurtosis",
        ]


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_run_depends_on_its_arm_and_seed_only(trained, tmp_path):
    options = make_options(tmp_path, model="small_cnn", seeds=[1])
    options.arms = ["pa", "base"]
    cifar10.train.run_study(options, cifar10.data.synthetic(32, 16, 16))
    [found], [expected] = (
        [cifar10.rows.read(path).rows for path in folder.glob("*.csv")]
        for folder in (tmp_path, trained.out)
    )
    assert len(found) == 2
    for row in found:
        assert row in expected


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 3},
        {"batch_size": 4},
        {"base": "he_normal"},
        {"schedule": "constant"},
        {"learning_rate": 0.5},
        {"vary_order": True},
    ],
    ids=str,
)
def test_another_configuration_gets_another_folder(tmp_path, change):
    study, other = make_study(tmp_path), make_study(tmp_path, **change)
    assert study.path != other.path
    assert make_study(tmp_path).path == study.path
    assert not study.path.exists()


@pytest.mark.backend("jax")
@pytest.mark.parametrize(
    ("model", "network"),
    [
        ("mlp", {}),
        ("small_cnn", {"normalization": "BatchNormalization"}),
        ("sl_vit", {"depth": 1, "width": 24, "heads": 2}),
        ("convmixer", {"depth": 1, "width": 16}),
        ("resnet50", {"width": 8, "blocks": (1, 1)}),
    ],
)
def test_runs_trained_together_are_those_trained_alone(
    tmp_path, model, network
):
    options = {"model": model, "network": network}
    studies = [
        make_study(tmp_path, together=together, **options)
        for together in (None, 3)
    ]
    alone, together = studies
    assert alone.path != together.path
    for study in studies:
        # Four runs: the second three are two runs short.
        study.run([0, 1], verbose=0)
    for one, other in zip(alone.rows(), together.rows(), strict=True):
        assert one["error"] is other["error"] is None
        for name, value in one.items():
            if name in ("seconds", "utc"):
                continue
            if isinstance(value, float):
                # Accuracies are of 16 images or 32.
                value = pytest.approx(value, rel=1e-3, abs=1e-4)
            assert other[name] == value, name


# Rows.


def write(path, rows, folder, **options):
    """Writes rows as `train.py` does, with a configuration beside them."""
    config = cifar10.train.make_config(
        make_options(folder, **options), cifar10.data.synthetic()
    )
    path.with_suffix(".json").write_text(json.dumps(config))
    with path.open("w", newline="") as file:
        names = list(rows[0]["metrics"])
        columns = ["arm", "seed", *names, "error", "device"]
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            names = {"arm": row["arm"], "seed": row["seed"]}
            names |= {"error": row["error"], "device": "cpu x86_64"}
            writer.writerow({**(row["metrics"] or {}), **names})


def made_up_rows(accuracies):
    """Rows as they are read, in which only the accuracies are of interest."""
    return [
        {
            "arm": arm,
            "seed": seed,
            "metrics": {
                **{
                    f"epoch_{epoch}_{curve}": 2.0 / epoch
                    for curve in cifar10.trainer.CURVES
                    for epoch in (1, 2)
                },
                **dict.fromkeys(cifar10.summary.METRICS, float(accuracy)),
                "strength_variance": 1.0 + seed / 100,
                "strength_kurtosis": 0.1 * seed,
            },
            "error": None,
        }
        for arm, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]


@pytest.mark.any_backend
def test_rows_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "cifar10-mlp-1.csv"
    rows = made_up_rows(made_up_arms())
    write(path, rows, tmp_path)
    assert cifar10.rows.read(path).rows == rows
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(ValueError, match=r"must have rows. Received: .*1\.csv"):
        cifar10.rows.read(path)


@pytest.mark.any_backend
def test_failed_runs_are_reported(tmp_path, monkeypatch, capsys):
    rows = made_up_rows(made_up_arms())
    for arm in ("pa", "base"):
        failed = {"arm": arm, "seed": 99, "metrics": None}
        rows.append({**failed, "error": "OSError: no luck"})
    path = tmp_path / "cifar10-mlp-1.csv"
    write(path, rows, tmp_path)
    text = write_report([path], tmp_path / "out", monkeypatch, capsys)
    assert "Failed runs, not in the means: 2." in text
    assert "`pa`, seed 99: OSError: no luck" in text
    assert re.search(r"\| 8 +\|", text)


# Command line.


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet"], "invalid choice: 'resnet'"),
        (["--model", "mlp", "--arms", "base,best"], "Received: 'best'"),
        (["--model", "mlp", "--seeds", "9-0"], "Received: '9-0'"),
        (["--model", "mlp", "--epochs", "0"], "Received: '0'"),
        (["--arms", "base"], "--model must be one of"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.raises(SystemExit):
        cifar10.train.parse_arguments()
    assert message in capsys.readouterr().err


@pytest.mark.any_backend
def test_arguments(monkeypatch):
    arguments = ["--model", "mlp", "--arms", "pa,base", "--seeds", "0-2,7"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    _, parsed = cifar10.train.parse_arguments()
    assert parsed.arms == ["pa", "base"]
    assert parsed.seeds == [0, 1, 2, 7]
    assert parsed.out == EXAMPLES.parent / "output" / "cifar10"


@pytest.mark.any_backend
@pytest.mark.slow
def test_smoke():
    script = EXAMPLES / "cifar10" / "train.py"
    # Without this suite's eight virtual devices.
    process = subprocess.run(
        [sys.executable, script, "--smoke"],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": ""},
    )
    assert process.returncode == 0, process.stderr
    assert "The smoke test has passed." in process.stdout


@pytest.mark.any_backend
@pytest.mark.slow
def test_speed():
    script = EXAMPLES / "cifar10" / "speed.py"
    arguments = ["--model", "mlp", "--steps", "2", "--batch-size", "8"]
    output = subprocess.run(
        [sys.executable, script, *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pattern = r"mlp on \w+, float32, \d+ thread\(s\): [\d.]+ images a second"
    assert re.search(pattern, output)


# Report.


@pytest.mark.any_backend
def test_committed_rows_can_be_read():
    paths = list((EXAMPLES / "results").glob("cifar10-*.csv"))
    assert paths
    for path in paths:
        section = cifar10.rows.read(path)
        assert section.stem == path.stem
        assert path.stem.startswith(f"cifar10-{section.config['model']}-")
        assert section.device
        seeds = {
            arm: {row["seed"] for row in section.rows if row["arm"] == arm}
            for arm in ("base", "pa")
        }
        assert seeds["base"] == seeds["pa"]
        assert len(seeds["pa"]) >= 10


@pytest.mark.any_backend
@pytest.mark.slow
def test_report_is_a_script():
    subprocess.run(
        [sys.executable, EXAMPLES / "cifar10" / "report.py", "--help"],
        check=True,
        capture_output=True,
    )


def made_up_arms(seeds=8, shift=0.02):
    noise = np.random.default_rng(0).normal(0, 0.01, (2, seeds))
    return {
        "base": 0.5 + noise[0],
        "pa": 0.5 + shift + noise[0] + 0.1 * noise[1],
    }


def summarize(accuracies):
    found = cifar10.summary.measured(made_up_rows(accuracies))
    return cifar10.summary.summarize(found)


def write_report(paths, out, monkeypatch, capsys):
    arguments = ["report.py", *map(str, paths), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    cifar10.report.main()
    return capsys.readouterr().out


@pytest.mark.any_backend
def test_report_by_hand():
    accuracies = made_up_arms()
    summary = summarize(accuracies)
    base, pa = 100 * accuracies["base"], 100 * accuracies["pa"]
    found = summary["arms"]["pa"]["test_accuracy"]
    np.testing.assert_allclose(found["mean"], pa.mean())
    np.testing.assert_allclose(found["sd"], pa.std(ddof=1))
    np.testing.assert_allclose(found["max"], pa.max())
    assert summary["arms"]["pa"]["n"] == 8
    assert len(summary["comparisons"]) == 3
    item = summary["comparisons"][-1]
    assert item["metric"] == "test_accuracy"
    np.testing.assert_allclose(item["difference"], (pa - base).mean())
    assert "`pa` is higher than `base` in test acc. by 1.91" in item["verdict"]


@pytest.mark.any_backend
def test_no_difference_is_said():
    accuracies = {"base": [0.1, 0.2, 0.3] * 2, "pa": [0.2, 0.1, 0.3] * 2}
    item = summarize(accuracies)["comparisons"][0]
    assert item["difference"] == pytest.approx(0)
    assert item["verdict"].startswith("No difference seen")


@pytest.mark.any_backend
def test_all_comparisons_of_a_metric_are_corrected_together():
    arms = ("base", "pa", "shuffled", "centered", "lowest", "highest")
    noise = np.random.default_rng(0).normal(0.5, 0.01, (6, 8))
    found = {
        (item["arm"], item["reference"]): (item["p"], item["p_holm"])
        for item in summarize(dict(zip(arms, noise, strict=True)))[
            "comparisons"
        ]
        if item["metric"] == "test_accuracy"
    }
    assert set(found) == {
        *((arm, "base") for arm in ("pa", "shuffled", "centered")),
        ("pa", "shuffled"),
        ("pa", "centered"),
        ("highest", "lowest"),
    }
    p, holm = min(found.values())
    assert holm == min(1, 6 * p)


@pytest.mark.any_backend
def test_highest_against_lowest():
    accuracies = {"lowest": [0.5, 0.6, 0.55, 0.52], "highest": [0.3, 0.2, 0.25]}
    item = summarize(accuracies)["comparisons"][-1]
    difference = 25 - 100 * np.mean(accuracies["lowest"])
    np.testing.assert_allclose(item["difference"], difference)
    # The most extreme of 7 over 3 orders, on both sides.
    np.testing.assert_allclose(item["p"], 2 / 35)
    assert item["n"] == "3 + 4"


@pytest.mark.any_backend
def test_report_describes_what_differs_between_studies(tmp_path):
    options = make_options(
        tmp_path, model="sl_vit", epochs=1, schedule="warmup"
    )
    images = cifar10.data.synthetic()
    config = cifar10.train.make_config(options, images)
    text = cifar10.report.describe(config, "cpu")
    assert "1 epoch in" in text
    assert "(warmup over 10 epochs, of 100)" in text
    assert "alike for all runs" in text
    assert "older" not in text
    config["study_version"] = 1
    assert "older random number" in cifar10.report.describe(config, "cpu")
    options.vary_order = True
    config = cifar10.train.make_config(options, images)
    assert "seeded by the run" in cifar10.report.describe(config, "cpu")


def test_garbage_is_collected_on_torch(tmp_path, monkeypatch):
    collected = []
    study = make_study(tmp_path, arms=["base"])
    monkeypatch.setattr(
        cifar10.trainer.gc, "collect", lambda: collected.append(1)
    )
    study.run([0])
    monkeypatch.undo()
    # The first batch of each epoch.
    expected = 2 if keras.backend.backend() == "torch" else 0
    assert len(collected) == expected


@pytest.mark.any_backend
def test_one_epoch_is_no_curve():
    losses = {name: {0: 1.0} for name in ("epoch_1_loss", "epoch_1_accuracy")}
    assert cifar10.figures.draw_curves({"base": losses}) is None


@pytest.mark.any_backend
def test_committed_report_is_that_of_the_committed_rows(
    tmp_path, monkeypatch, capsys
):
    results = EXAMPLES / "results"
    paths = sorted(map(str, results.glob("cifar10-*.csv")))
    assert len(paths) == 7
    monkeypatch.setattr(cifar10.report.figures, "draw", lambda *args: None)
    write_report(paths, tmp_path, monkeypatch, capsys)
    name = "cifar10-report"
    text = (results / f"{name}.md").read_text()
    assert (tmp_path / f"{name}.md").read_text() == text
    found, expected = (
        json.loads((folder / f"{name}.json").read_text())
        for folder in (tmp_path, results)
    )
    assert_near(found, expected)


def assert_near(found, expected):
    """Asserts that JSON is the same, but for the rounding of numbers."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    else:
        assert found == expected


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "accuracies",
    [
        {"base": [0.5, 0.6], "pa": [0.5, 0.6]},
        {"base": [0.5], "pa": [0.6]},
        {"pa": [0.5, 0.6, 0.7]},
        {"base": [0.5, 0.6, 0.7], "lowest": [0.5]},
        {"lowest": [0.5], "highest": [0.5]},
        made_up_arms(),
    ],
    ids=["two equal", "one", "no base", "one lowest", "unpaired", "eight"],
)
def test_report_of_few_rows(tmp_path, accuracies, monkeypatch, capsys):
    path, out = tmp_path / "cifar10-mlp-12345678.csv", tmp_path / "out"
    write(path, made_up_rows(accuracies), tmp_path)
    printed = write_report([path], out, monkeypatch, capsys)
    assert "## mlp" in printed
    for arm in accuracies:
        name = "orthogonal, plain" if arm == "base" else arm
        assert re.search(rf"\| {name} +\|", printed)
    assert "nan" not in printed
    results = json.loads((out / "cifar10-report.json").read_text())
    assert results[0]["config"]["model"] == "mlp"
    assert (out / f"{path.stem}-curves.png").stat().st_size > 10_000
    paired = "base" in accuracies and "pa" in accuracies
    assert (out / f"{path.stem}-effects.png").exists() == paired
