import importlib
import json
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
from helpers import child_environment
from keras import ops

from keras_parewire import Sinusoidal, reinitialize, strength_variance

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


ARMS = cifar10.arms.make_arms(candidates=6)


class NoTrainer:
    """Returns a number at once."""

    def make_model(self):
        return cifar10.models.mlp("orthogonal")

    def train(self, network, seed):
        return {"test_accuracy": 0.5}


def make_options(folder, **changes):
    options = {
        "model": "mlp",
        "base": None,
        "arms": ["base", "pa"],
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


@pytest.fixture(scope="module")
def network():
    return cifar10.models.small_cnn("orthogonal")


def start(network, arm, seed):
    keras.utils.set_random_seed(seed)
    reinitialize(network)
    if ARMS[arm] is not None:
        ARMS[arm](network, seed=seed)


def draw(network, arm, seed):
    start(network, arm, seed)
    return kernels(network)


def kernels(network):
    return [
        ops.convert_to_numpy(layer.kernel).copy()
        for layer in cifar10.arms.kernel_layers(network)
    ]


# Models.


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50", 23_520_842),
        ("sl_vit", 2_729_878),
        ("convmixer", 594_186),
        ("small_cnn", 89_834),
        ("mlp", 1_792_010),
    ],
)
def test_networks(name, parameters):
    network = cifar10.models.RECIPES[name].build("lecun_uniform")
    weights = network.trainable_variables
    assert sum(np.prod(weight.shape) for weight in weights) == parameters
    assert network.input_shape == (None, 32, 32, 3)
    assert network.output_shape == (None, 10)
    # The base reaches every kernel, each with an instance of its own.
    layers = cifar10.arms.kernel_layers(network)
    bases = [layer.kernel_initializer for layer in layers]
    assert {type(base) for base in bases} == {keras.initializers.LecunUniform}
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
def test_schedules():
    def rates(*arguments):
        rate = cifar10.trainer.schedule(*arguments)
        return np.array([float(rate(step)) for step in range(101)])

    assert cifar10.trainer.schedule("constant", 0.1, 100) == 0.1
    for name, top in (("cosine", 0), ("onecycle", 30)):
        found = rates(name, 0.1, 100)
        np.testing.assert_allclose(found.max(), 0.1, rtol=1e-5)
        assert np.argmax(found) == top
        assert found[100] < 1e-6
    # The start of a long training, which may end before the top.
    found = rates("warmup", 0.1, 5, 40, 100)
    assert found[0] <= 0.1 / 40
    np.testing.assert_allclose(np.diff(found[:41], n=2), 0, atol=1e-6)
    np.testing.assert_allclose(found[40], 0.1, rtol=1e-5)
    assert (np.diff(found[40:]) < 0).all()
    np.testing.assert_allclose(found[100], 0, atol=1e-6)


@keras.saving.register_keras_serializable(package="tests")
class Counted(keras.layers.Layer):
    """Counts its calls from Python: a few for each compilation."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x


def make_tiny_network():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.AveragePooling2D(8)(Counted()(inputs))
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def make_trainer(build=make_tiny_network, **options):
    kind = cifar10.trainer.Trainer
    if options:
        kind = importlib.import_module("cifar10.together").TogetherTrainer
    data = cifar10.data.synthetic(32, 16, 16)
    optimizer = lambda steps: keras.optimizers.AdamW(0.01)  # noqa: E731
    return kind(build, data, 2, 8, optimizer, **options)


def test_runs_differ_in_their_weights_alone(monkeypatch):
    collected = []
    collect = SimpleNamespace(collect=lambda: collected.append(1))
    monkeypatch.setattr(cifar10.trainer, "gc", collect)
    trainer = make_trainer()
    weights = trainer.network.get_weights()
    runs, calls = {}, []
    for vary, seed in [(False, s) for s in (0, 5, 0)] + [(True, 0), (True, 5)]:
        trainer.vary_order = vary
        trainer.network.set_weights(weights)
        runs.setdefault((vary, seed), []).append(
            trainer.train(trainer.network, seed)
        )
        calls.append(trainer.network.layers[1].calls)
    first, again = runs[False, 0]
    assert first == again == runs[False, 5][0]
    # The order varies only if it is asked for.
    assert runs[True, 0] == [first]
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
    # A normalization moves its statistics only in training mode.
    assert ops.all(trainer.network.layers[3].moving_mean != 0)
    if keras.backend.backend() == "torch":
        # At the first batch of each epoch of each run.
        assert len(collected) == 5 * 2
    else:
        assert not collected
        # The first run compiles, and no other.
        assert len(set(calls)) == 1


def test_a_run_does_not_depend_on_those_before_it():
    def train(trainer, seed):
        start(trainer.network, "base", seed)
        return trainer.train(trainer.network, seed)

    one, other = make_trainer(), make_trainer()
    first = train(one, 1)
    assert train(one, 2) != first
    assert train(other, 2) != first
    assert train(other, 1) == first


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
    draws = []
    for seed in range(6):
        reinitialize(network, seed=seed)
        draws.append(kernels(network))
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


@pytest.mark.any_backend
def test_rows_are_in_a_folder_and_in_one_file(tmp_path):
    # Two calls make one study.
    for arms, seeds in ((["base", "pa"], [0, 1]), (["shuffled"], [0])):
        options = make_options(
            tmp_path, model="small_cnn", arms=arms, seeds=seeds
        )
        data = cifar10.data.synthetic(32, 16, 16)
        cifar10.train.run_study(options, data)
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
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
    assert section.config == cifar10.train.make_config(options, data)
    assert section.device.startswith("cpu")
    for row in section.rows:
        assert row["error"] is None
        assert list(row["metrics"])[6:] == [
            "test_accuracy",
            "strength_variance",
            "strength_kurtosis",
        ]


@pytest.mark.any_backend
def test_another_configuration_gets_another_folder(tmp_path):
    images = cifar10.data.synthetic()

    def path(**changes):
        options = make_options(tmp_path, **changes)
        config = cifar10.train.make_config(options, images)
        trainer = NoTrainer()
        return cifar10.train.make_study(options, config, trainer, ["pa"]).path

    changes = (
        {},
        {"epochs": 3},
        {"batch_size": 4},
        {"base": "he_normal"},
        {"schedule": "constant"},
        {"learning_rate": 0.5},
        {"vary_order": True},
        {"together": 2},
    )
    assert len({path(**change) for change in changes}) == len(changes)
    assert path(seeds=[1], out=tmp_path) == path()


@pytest.mark.backend("jax")
@pytest.mark.parametrize(
    "build",
    [
        make_tiny_network,
        lambda: cifar10.models.sl_vit("orthogonal", depth=1, width=24, heads=2),
        lambda: cifar10.models.convmixer("orthogonal", depth=1, width=16),
    ],
    ids=["tiny", "sl_vit", "convmixer"],
)
def test_runs_trained_together_are_those_trained_alone(build):
    alone, together = make_trainer(build), make_trainer(build, together=3)
    # One run short.
    found = together.train_all([(None, 0), (ARMS["pa"], 0)])
    for arm, other in zip(("base", "pa"), found, strict=True):
        start(alone.network, arm, 0)
        one = alone.train(alone.network, 0)
        # Accuracies are of 16 images or 32.
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert found[0]["epoch_1_loss"] != found[1]["epoch_1_loss"]


@pytest.mark.backend("jax")
def test_a_study_of_runs_trained_together(tmp_path):
    images = cifar10.data.synthetic(32, 16, 16)
    for seeds in ([0], [0, 1]):
        options = make_options(tmp_path, seeds=seeds, together=3)
        cifar10.train.run_study(options, images)
    [path] = tmp_path.glob("*.csv")
    rows = cifar10.rows.read(path).rows
    assert [(row["arm"], row["seed"]) for row in rows] == [
        *(("base", 0), ("pa", 0)),
        *(("base", 1), ("pa", 1)),
    ]
    assert all(row["error"] is None for row in rows)


# Rows.


def write(path, rows):
    """Writes rows as `train.py` does, with a configuration beside them."""
    names = list(rows[0]["metrics"])
    found = [
        {
            **{"arm": row["arm"], "seed": row["seed"]},
            **{name: (row["metrics"] or {}).get(name) for name in names},
            **{"error": row["error"], "device": "cpu x86_64"},
        }
        for row in rows
    ]
    study = SimpleNamespace(path=path.with_suffix(""), rows=lambda: found)
    images = cifar10.data.synthetic()
    config = cifar10.train.make_config(make_options(None), images)
    cifar10.rows.write(study, config)


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
    write(path, rows)
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
    write(path, rows)
    text = write_report([path], tmp_path / "out", monkeypatch, capsys)
    assert "- 1 of 9 runs of `base` failed and are not in the means" in text
    assert "(seed 99) with OSError: no luck" in text
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
def test_help_describes_every_option(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--model", "mlp"])
    parser, _ = cifar10.train.parse_arguments()
    text = " ".join(parser.format_help().split())
    assert ", ".join(cifar10.models.RECIPES) in text
    assert all(action.help for action in parser._actions)


@pytest.mark.any_backend
def test_smoke(tmp_path):
    script = EXAMPLES / "cifar10" / "train.py"
    process = subprocess.run(
        [sys.executable, script, "--smoke", "--out", tmp_path],
        env=child_environment(),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "The smoke test has passed." in process.stdout
    networks = [path.name.split("-")[1] for path in tmp_path.glob("*.csv")]
    assert sorted(networks) == sorted(cifar10.models.RECIPES)


@pytest.mark.any_backend
def test_estimate(monkeypatch, capsys):
    arguments = ["--model", "mlp", "--estimate", "2", "--batch-size", "8"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    cifar10.train.main()
    pattern = r"mlp: \d+ images a second, so about \d+ minutes for 10 runs"
    assert re.match(pattern, capsys.readouterr().out)


# Report.


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
def test_report_describes_what_differs_between_studies():
    options = make_options(None, model="sl_vit", epochs=1, schedule="warmup")
    images = cifar10.data.synthetic()
    config = cifar10.train.make_config(options, images)
    text = cifar10.report.describe(config, "cpu")
    assert "1 epoch in" in text
    assert "(warmup over 10 epochs, of 100)" in text
    assert "alike for all runs" in text
    assert "older" not in text
    config |= {"study_version": 1, "order_seed": "of the run"}
    text = cifar10.report.describe(config, "cpu")
    assert "older random number" in text
    assert "seeded by the run" in text


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
        {"base": [0.5], "pa": [0.6], "lowest": [0.5], "highest": [0.5]},
        {"pa": [0.5, 0.6, 0.7]},
    ],
    ids=["two equal", "one of each", "no base"],
)
def test_report_of_few_rows(tmp_path, accuracies, monkeypatch, capsys):
    path, out = tmp_path / "cifar10-mlp-12345678.csv", tmp_path / "out"
    write(path, made_up_rows(accuracies))
    printed = write_report([path], out, monkeypatch, capsys)
    assert "## mlp" in printed
    for arm in accuracies:
        name = "orthogonal, plain" if arm == "base" else arm
        assert re.search(rf"\| {name} +\|", printed)
    assert "nan" not in printed
    results = json.loads((out / "cifar10-report.json").read_text())
    assert results[0]["config"]["model"] == "mlp"
    assert (out / f"{path.stem}-curves.png").stat().st_size > 10_000
    paired = "base" in accuracies
    assert (out / f"{path.stem}-effects.png").exists() == paired
