import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
from cifar10.study import Study
from keras import ops

from keras_parewire import Sinusoidal, strength_variance

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


def make_study(folder, **changes):
    options = {
        "model": "mlp",
        "base": None,
        "epochs": 2,
        "batch_size": 8,
        "schedule": "onecycle",
        "learning_rate": None,
        "candidates": 6,
        "vary_order": False,
        "smoke": False,
        "out": folder,
    }
    options = SimpleNamespace(**{**options, **changes})
    return Study(options, cifar10.data.synthetic(32, 16, 16))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"), model="small_cnn")


def curves(row):
    return [row[name] for name in ("losses", "val_accuracies", "test_accuracy")]


def kernels(study):
    return [
        ops.convert_to_numpy(layer.kernel)
        for layer in cifar10.arms.kernel_layers(study.weights.network)
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


def test_base_reaches_every_kernel():
    for recipe in cifar10.models.RECIPES.values():
        layers = cifar10.arms.kernel_layers(recipe.build("lecun_uniform"))
        bases = [layer.kernel_initializer for layer in layers]
        assert {type(base) for base in bases} == {
            keras.initializers.LecunUniform
        }
        assert len(set(map(id, bases))) == len(layers)


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


# Data and training.


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


def test_data_directory_without_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="Received: data_dir="):
        cifar10.data.load(tmp_path)
    assert not any(tmp_path.iterdir())


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


def test_epochs_are_permutations():
    train = np.arange(100, 110)
    order = cifar10.trainer.epoch_orders(train, 3, 8)
    epochs = order.reshape(3, 8)
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other = cifar10.trainer.epoch_orders(train, 3, 8, seed=1)
    assert not np.array_equal(order, other)


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


def test_a_warmup_is_the_start_of_a_long_schedule():
    rate = cifar10.trainer.schedule("warmup", 0.1, 5, 40, 100)
    rates = np.array([float(rate(step)) for step in range(101)])
    assert rates[0] <= 0.1 / 40
    np.testing.assert_allclose(np.diff(rates[:41], n=2), 0, atol=1e-6)
    np.testing.assert_allclose(rates[40], 0.1, rtol=1e-5)
    assert (np.diff(rates[40:]) < 0).all()
    np.testing.assert_allclose(rates[100], 0, atol=1e-6)


def test_the_order_varies_with_the_seed_only_if_asked_for(tmp_path):
    runs = {}
    for vary in (False, True):
        study = make_study(tmp_path, epochs=1, vary_order=vary)
        seeds = []
        study.trainer.run = lambda _, seed, seeds=seeds: (
            seeds.append(seed) or RESULT
        )
        for seed in (0, 5):
            study.train("base", seed)
        runs[vary] = seeds
    assert runs == {False: [0, 0], True: [0, 5]}


RESULT = {
    "losses": [1.0],
    "accuracies": [0.5],
    "val_accuracies": [0.5],
    "test_accuracy": 0.5,
    "seconds": 1.0,
}


# Runs.


def test_arms_are_paired(study):
    drawn = {}
    for arm in ("base", "pa", "shuffled", "greedy"):
        study.weights.set_up(arm, 3)
        drawn[arm] = kernels(study)
    for arm in ("pa", "shuffled", "greedy"):
        for base, other in zip(drawn["base"], drawn[arm], strict=True):
            assert not np.array_equal(base, other)
            np.testing.assert_array_equal(
                np.sort(base, axis=None), np.sort(other, axis=None)
            )
    study.weights.set_up("base", 4)
    for base, other in zip(drawn["base"], kernels(study), strict=True):
        assert not np.array_equal(base, other)


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
    weights = cifar10.arms.InitialWeights(build(), candidates=1)
    drawn = []
    for arm, seed in (("base", 0), ("base", 1), ("base", 0), ("pa", 0)):
        weights.set_up(arm, seed)
        drawn.append(
            [ops.convert_to_numpy(w).copy() for w in weights.network.weights]
        )
    kernels = cifar10.arms.kernel_layers(weights.network)
    kernels = {id(layer.kernel) for layer in kernels}
    random = ("kernel", "token", "positions")
    for weight, base, other, again, pa in zip(
        weights.network.weights, *drawn, strict=True
    ):
        np.testing.assert_array_equal(base, again)
        assert np.array_equal(base, pa) == (id(weight) not in kernels)
        assert np.array_equal(base, other) == (weight.name not in random)


@pytest.mark.slow
def test_stabilized_starts_from_the_base_and_leaves_no_trace(
    study, monkeypatch
):
    layers = cifar10.arms.kernel_layers(study.weights.network)
    before = [layer.kernel_initializer for layer in layers]
    study.weights.set_up("base", 0)
    base = kernels(study)
    monkeypatch.setattr(cifar10.arms, "STABILIZED_CANDIDATES", 1)
    study.weights.set_up("stabilized", 0)
    for one, other in zip(base, kernels(study), strict=True):
        np.testing.assert_array_equal(one, other)
    monkeypatch.setattr(cifar10.arms, "STABILIZED_CANDIDATES", 5)
    study.weights.set_up("stabilized", 0)
    stabilized = kernels(study)
    assert any(
        strength_variance(other) < strength_variance(one)
        for one, other in zip(base, stabilized, strict=True)
    )
    study.weights.set_up("pa_stabilized", 0)
    for one, other in zip(stabilized, kernels(study), strict=True):
        np.testing.assert_array_equal(
            np.sort(one, axis=None), np.sort(other, axis=None)
        )
    assert [layer.kernel_initializer for layer in layers] == before


def test_centered(study):
    study.weights.set_up("base", 2)
    base = kernels(study)
    study.weights.set_up("pa", 2)
    rewired = kernels(study)
    for arm, start in (("centered", base), ("pa_centered", rewired)):
        study.weights.set_up(arm, 2)
        for before, after in zip(start, kernels(study), strict=True):
            before = before.reshape(-1, before.shape[-1])
            after = after.reshape(-1, after.shape[-1])
            np.testing.assert_allclose(after.sum(axis=0), 0, atol=1e-5)
            np.testing.assert_allclose(after.sum(axis=1), 0, atol=1e-5)
            np.testing.assert_allclose(after.std(), before.std(), rtol=1e-5)
            # It is still the same kernel, but for a tenth of it.
            correlation = np.corrcoef(before.ravel(), after.ravel())[0, 1]
            assert correlation > 0.9
        variance, _ = cifar10.arms.strength_moments(study.weights.network)
        assert variance < 1e-10


@pytest.mark.parametrize(
    ("arm", "rewired"),
    [
        ("pa_first", [True, False, False, False, False]),
        ("pa_last", [False, False, False, False, True]),
        ("pa_others", [False, True, True, True, False]),
    ],
)
def test_some_kernels_rewired(study, arm, rewired):
    drawn = {}
    for name in ("base", "pa", arm):
        study.weights.set_up(name, 2)
        drawn[name] = kernels(study)
    for base, pa, found, whether in zip(*drawn.values(), rewired, strict=True):
        assert not np.array_equal(base, pa)
        np.testing.assert_array_equal(found, pa if whether else base)


def test_sinusoidal():
    network = cifar10.models.convmixer("orthogonal", width=32, depth=1)
    weights = cifar10.arms.InitialWeights(network, candidates=1)
    stem, depthwise, pointwise, logits = (
        layer for layer in network.layers if hasattr(layer, "kernel")
    )
    weights.set_up("sinusoidal", 0)
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
    weights.set_up("pa_sinusoidal", 0)
    rewired = ops.convert_to_numpy(pointwise.kernel)
    assert not np.array_equal(plain, rewired)
    np.testing.assert_array_equal(
        np.sort(plain, axis=None), np.sort(rewired, axis=None)
    )


@pytest.mark.slow
def test_lowest_and_highest(study):
    variances = []
    for draw in range(6):
        study.weights.set_up("base", draw)
        variances.append(np.mean([*map(strength_variance, kernels(study))]))
    order = list(np.argsort(variances))
    lowest = [study.weights.set_up("lowest", rank) for rank in range(6)]
    assert lowest == order
    assert study.weights.set_up("highest", 0) == order[-1]
    with pytest.raises(ValueError, match="Received: seed=6"):
        study.weights.set_up("lowest", 6)


@pytest.mark.slow
def test_a_run_leaves_nothing_behind(study):
    first = study.train("base", 0)
    again = study.train("base", 0)
    other = study.train("pa", 1)
    last = study.train("base", 0)
    assert curves(first) == curves(again) == curves(last)
    assert curves(first) != curves(other)
    assert set(first) == set(cifar10.rows.COLUMNS)
    assert first["threads"] >= 1
    assert isinstance(json.loads(first["flags"]), dict)
    # Another order of the images, and their old order again.
    order = study.config["order_seed"]
    study.config["order_seed"] = "of the run"
    study.weights.set_up("base", 0)
    moved = study.trainer.run(order_seed=1)
    study.config["order_seed"] = order
    assert moved["losses"] != json.loads(first["losses"])
    assert curves(study.train("base", 0)) == curves(first)


@pytest.mark.slow
def test_dropout_and_statistics_start_anew():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.AveragePooling2D(8)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    network = keras.Model(inputs, keras.layers.Dense(10)(x))
    data = cifar10.data.synthetic(32, 16, 16)
    trainer = cifar10.trainer.Trainer(
        network, data, 2, 8, lambda steps: keras.optimizers.AdamW(0.01)
    )
    weights = [ops.convert_to_numpy(w).copy() for w in network.weights]
    runs = []
    for _ in range(2):
        for variable, value in zip(network.weights, weights, strict=True):
            variable.assign(value)
        runs.append(trainer.run())
    assert runs[0]["losses"] == runs[1]["losses"]
    assert runs[0]["test_accuracy"] == runs[1]["test_accuracy"]


@pytest.mark.slow
@pytest.mark.backend("tensorflow", "jax")
def test_another_compilation_is_an_error(tmp_path):
    study = make_study(tmp_path)
    study.train("base", 0)
    traces = study.trainer.model.traces
    study.train("pa", 0)
    assert study.trainer.model.traces == traces
    study.trainer.batch_size = 4
    with pytest.raises(RuntimeError, match="first run only"):
        study.train("pa", 1)


# Rows.


def make_row(arm="base", seed=0, accuracy=0.5, **changes):
    row = dict.fromkeys(cifar10.rows.COLUMNS, "x,\"'")
    accuracies = {name: accuracy for name in cifar10.summary.METRICS}
    return {
        **row,
        **accuracies,
        "model": "mlp",
        "arm": arm,
        "seed": seed,
        "strength_variance": 1.0 + seed / 100,
        "strength_kurtosis": 0.1 * seed,
        "losses": json.dumps([2.0, 1.5]),
        "accuracies": json.dumps([0.2, accuracy]),
        "val_accuracies": json.dumps([0.3, accuracy]),
        **changes,
    }


def train_for_show(study, trained):
    def train(arm, seed, after_epoch):
        trained.append((arm, seed))
        return make_row(arm, seed, config=study.hash)

    return train


def test_a_study_goes_on_where_it_stopped(tmp_path):
    study, trained = make_study(tmp_path), []
    study.train = train_for_show(study, trained)
    arms = ["base", "pa"]
    study.run(study.missing([0, 1], arms))
    assert trained == [("base", 0), ("pa", 0), ("base", 1), ("pa", 1)]
    whole = study.path.read_bytes()
    # Killed in the middle of the last row.
    study.path.write_bytes(whole[:-20])
    assert study.missing([0, 1], arms) == [("pa", 1)]
    study.run(study.missing([0, 1, 2], arms))
    assert trained[4:] == [("pa", 1), ("base", 2), ("pa", 2)]
    rows = cifar10.rows.read(study.path)
    assert len(set(map(cifar10.rows.key, rows))) == len(rows) == 6
    assert study.path.read_bytes().startswith(whole)
    assert study.missing([0, 1, 2], arms) == []


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
def test_another_configuration_gets_another_file(tmp_path, change):
    study, other = make_study(tmp_path), make_study(tmp_path, **change)
    assert study.path != other.path
    assert make_study(tmp_path).path == study.path


def test_config_is_beside_the_rows(tmp_path):
    study = make_study(tmp_path)
    study.train = train_for_show(study, [])
    study.run(study.missing([0], ["base"]))
    config = json.loads(study.path.with_suffix(".json").read_text())
    assert config == study.config
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        study.path.with_suffix(".csv").name,
        study.path.with_suffix(".json").name,
    ]


def test_a_row_is_never_written_twice(tmp_path):
    path = tmp_path / "rows.csv"
    assert cifar10.rows.append(path, make_row())
    assert not cifar10.rows.append(path, make_row(accuracy=0.9))
    with ThreadPoolExecutor(8) as pool:
        added = list(
            pool.map(
                lambda seed: cifar10.rows.append(path, make_row(seed=seed)),
                [1, 2, 3, 4] * 8,
            )
        )
    assert sum(added) == 4
    rows = cifar10.rows.read(path)
    assert sorted(row["seed"] for row in rows) == list("01234")
    assert rows[0]["device"] == "x,\"'"


def test_a_torn_row_is_dropped(tmp_path):
    path = tmp_path / "rows.csv"
    cifar10.rows.append(path, make_row(seed=0))
    whole = path.read_bytes()
    for length in (1, 30, 100):
        path.write_bytes(whole + whole.splitlines()[1][:length])
        assert len(cifar10.rows.read(path)) == 1
        cifar10.rows.append(path, make_row(seed=1))
        assert [row["seed"] for row in cifar10.rows.read(path)] == ["0", "1"]


def test_rows_without_locks(tmp_path, monkeypatch):
    # As on Windows, where one process at a time may write.
    monkeypatch.setattr(cifar10.rows, "fcntl", None)
    path = tmp_path / "rows.csv"
    assert cifar10.rows.append(path, make_row())
    assert not cifar10.rows.append(path, make_row())
    assert len(cifar10.rows.read(path)) == 1


def test_rows_of_the_first_version_are_read_but_not_added_to(tmp_path):
    path = tmp_path / "rows.csv"
    columns = cifar10.rows.FIRST_COLUMNS
    assert "threads" not in columns
    row = make_row()
    path.write_bytes(
        cifar10.rows._line(columns)
        + cifar10.rows._line(row[column] for column in columns)
    )
    assert len(cifar10.rows.read(path)) == 1
    with pytest.raises(ValueError, match="Received"):
        cifar10.rows.append(path, make_row(seed=1))


def test_columns_of_another_version_are_an_error(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("model,arm,seed\nmlp,base,0\n")
    with pytest.raises(ValueError, match="Received"):
        cifar10.rows.append(path, make_row())


# Command line.


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


def test_arguments(monkeypatch):
    arguments = ["--model", "mlp", "--arms", "pa,base", "--seeds", "0-2,7"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    _, parsed = cifar10.train.parse_arguments()
    assert parsed.arms == ["pa", "base"]
    assert parsed.seeds == [0, 1, 2, 7]
    assert parsed.out == EXAMPLES.parent / "output" / "cifar10"


@pytest.mark.slow
def test_smoke():
    script = EXAMPLES / "cifar10" / "train.py"
    # Without this suite's eight virtual devices, and without what optimizing a
    # few steps would take.
    flags = "--xla_backend_optimization_level=0"
    process = subprocess.run(
        [sys.executable, script, "--smoke"],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": flags},
    )
    assert process.returncode == 0, process.stderr
    assert "The smoke test has passed." in process.stdout


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
    assert re.search(r"mlp on \w+, \d+ thread\(s\): [\d.]+ images", output)


# Report.


def test_committed_rows_can_be_read():
    paths = list((EXAMPLES / "results").glob("cifar10-*.csv"))
    assert paths
    for path in paths:
        config, device, arms = cifar10.report.read_study(path)
        assert path.stem.startswith(f"cifar10-{config['model']}-")
        assert device
        assert {"base", "pa"} <= set(arms)


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


def write_study(folder, accuracies):
    path = folder / "cifar10-mlp-12345678.csv"
    for arm, values in accuracies.items():
        for seed, accuracy in enumerate(values):
            cifar10.rows.append(path, make_row(arm, seed, float(accuracy)))
    config = make_study(folder).config
    path.with_suffix(".json").write_text(json.dumps(config))
    return path


def test_report_by_hand(tmp_path):
    accuracies = made_up_arms()
    path = write_study(tmp_path, accuracies)
    _, _, arms = cifar10.report.read_study(path)
    summary = cifar10.summary.summarize(arms)
    base, pa = 100 * accuracies["base"], 100 * accuracies["pa"]
    found = summary["arms"]["pa"]["test_accuracy"]
    np.testing.assert_allclose(found["mean"], pa.mean())
    np.testing.assert_allclose(found["sd"], pa.std(ddof=1))
    np.testing.assert_allclose(found["max"], pa.max())
    assert len(summary["comparisons"]) == 3
    item = summary["comparisons"][-1]
    assert item["metric"] == "test_accuracy"
    differences = pa - base
    np.testing.assert_allclose(item["difference"], differences.mean())
    np.testing.assert_allclose(item["ratio"], pa.var() / base.var())
    # All eight differences have one sign: two of 2**8 cases.
    np.testing.assert_allclose(item["p"], 2 / 2**8)
    low, high = item["interval"]
    half = 1.96 * differences.std() / np.sqrt(8)
    np.testing.assert_allclose(low, differences.mean() - half, atol=0.02)
    np.testing.assert_allclose(high, differences.mean() + half, atol=0.02)
    assert item["ratio_interval"][0] < item["ratio"] < item["ratio_interval"][1]
    assert "`pa` is higher than `base` in test acc. by 1.91" in item["verdict"]


def test_no_difference_is_said():
    rows = {
        arm: {
            seed: dict.fromkeys(cifar10.summary.METRICS, value)
            for seed, value in enumerate(values)
        }
        for arm, values in {
            "base": [0.1, 0.2, 0.3],
            "pa": [0.2, 0.1, 0.3],
        }.items()
    }
    item = cifar10.summary.summarize(rows)["comparisons"][0]
    assert item["difference"] == pytest.approx(0)
    assert item["verdict"].startswith("No difference seen")


def test_correction_for_the_number_of_comparisons(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.01, (3, 8))
    accuracies = {
        "base": 0.5 + noise[0],
        "pa": 0.52 + noise[0] + 0.1 * noise[1],
        "shuffled": 0.5 + noise[0] + noise[2],
    }
    _, _, arms = cifar10.report.read_study(write_study(tmp_path, accuracies))
    found = {
        (item["arm"], item["reference"]): (item["p"], item["p_holm"])
        for item in cifar10.summary.summarize(arms)["comparisons"]
        if item["metric"] == "test_accuracy"
    }
    assert set(found) == {
        ("pa", "base"),
        ("shuffled", "base"),
        ("pa", "shuffled"),
    }
    plain = sorted(p for p, _ in found.values())
    holm = np.maximum.accumulate([3 * plain[0], 2 * plain[1], plain[2]])
    np.testing.assert_allclose(sorted(h for _, h in found.values()), holm)


def test_highest_against_lowest(tmp_path):
    accuracies = {"lowest": [0.5, 0.6, 0.55, 0.52], "highest": [0.3, 0.2, 0.25]}
    _, _, arms = cifar10.report.read_study(write_study(tmp_path, accuracies))
    item = cifar10.summary.summarize(arms)["comparisons"][-1]
    difference = 25 - 100 * np.mean(accuracies["lowest"])
    np.testing.assert_allclose(item["difference"], difference)
    # The most extreme of 7 over 3 orders, on both sides.
    np.testing.assert_allclose(item["p"], 2 / 35)
    assert item["n"] == "3 + 4"


def test_committed_report_is_that_of_the_committed_rows(tmp_path, monkeypatch):
    results = EXAMPLES / "results"
    paths = sorted(map(str, results.glob("cifar10-*.csv")))
    assert len(paths) == 2
    monkeypatch.setattr(cifar10.report.figures, "draw", lambda *args: None)
    arguments = ["report.py", *paths, "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    cifar10.report.main()
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
    path = write_study(tmp_path, accuracies)
    out = tmp_path / "out"
    monkeypatch.setattr(
        sys, "argv", ["cifar10.report.py", str(path), "--out", str(out)]
    )
    cifar10.report.main()
    printed = capsys.readouterr().out
    assert "## mlp" in printed
    for arm in accuracies:
        assert ("plain" if arm == "base" else f"| {arm} |") in printed
    assert "nan" not in printed
    results = json.loads((out / "cifar10-report.json").read_text())
    assert results[0]["config"]["model"] == "mlp"
    assert (out / f"{path.stem}-curves.png").stat().st_size > 10_000
    paired = "base" in accuracies and "pa" in accuracies
    assert (out / f"{path.stem}-effects.png").exists() == paired
