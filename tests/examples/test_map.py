import sys
from pathlib import Path
from types import SimpleNamespace

import cifar10.arms
import cifar10.data
import cifar10.map
import cifar10.map_networks
import cifar10.map_numbers
import cifar10.map_report
import cifar10.map_rows
import cifar10.models
import keras
import numpy as np
import pytest
from cifar10.map_cells import CELLS, LARGE_CELLS, PREDICTED, Cell
from keras import ops

EXAMPLES = Path(__file__).parents[2] / "examples"
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 32, 32, 3)).astype("float32")


# Networks and starts.


@pytest.mark.parametrize("name", ["small_cnn", "mlp"])
def test_networks_are_those_of_the_study(name):
    network = cifar10.models.RECIPES[name].build("he_normal")
    mine = getattr(cifar10.map_networks, name.removeprefix("small_"))
    mine = mine("he_normal")
    mine.set_weights(in_order(network, mine))
    np.testing.assert_allclose(
        ops.convert_to_numpy(network(IMAGES)),
        ops.convert_to_numpy(mine(IMAGES)),
        atol=1e-5,
    )


def in_order(network, mine):
    """The network's weights in the order of the other, and constants of 1."""
    weights = iter(network.get_weights())
    return [
        np.ones((), "float32")
        if weight.path.endswith("/constant")
        else next(weights)
        for weight in mine.weights
    ]


@pytest.fixture(scope="module")
def runner():
    cell = Cell(
        "he_normal",
        {"normalization": "BatchNormalization"},
        epochs=2,
        batch_size=16,
    )
    images = cifar10.data.synthetic(64, 32, 16)
    return cifar10.map.Runner(cell, images)


def started(runner, arm, seed=0):
    """The kernels, the outputs and their scales of a start."""
    runner.start(arm, seed)
    scales = [row.rms for row in runner.scales() if row.skipped is None]
    outputs = ops.convert_to_numpy(runner.seen(runner.probe))
    kernels = [ops.convert_to_numpy(k) for k in kernels_of(runner.network)]
    return kernels, outputs, np.array(scales)


def kernels_of(network):
    return [layer.kernel for layer in cifar10.arms.kernel_layers(network)]


def same_values(one, other):
    return all(
        np.array_equal(np.sort(a, None), np.sort(b, None))
        for a, b in zip(one, other, strict=True)
    )


def test_starts(runner):
    base, _, plain = started(runner, "base")
    pa, _, rewired = started(runner, "pa")
    assert same_values(base, pa)
    assert rewired[0] < 0.9 * plain[0]
    scaled, outputs, scales = started(runner, "scaled")
    np.testing.assert_allclose(scales, rewired, rtol=1e-4)
    for one, other in zip(base, scaled, strict=True):
        factor = np.mean(other / one)
        assert factor > 0
        np.testing.assert_allclose(other, factor * one, rtol=1e-4)
    _, same_outputs, own = started(runner, "signals")
    np.testing.assert_allclose(same_outputs, outputs, atol=1e-4)
    assert own[0] == pytest.approx(plain[0])
    _, _, scales = started(runner, "pa_up")
    np.testing.assert_allclose(scales, plain, rtol=1e-4)
    _, _, centered = started(runner, "centered")
    _, _, scales = started(runner, "centered_scaled")
    np.testing.assert_allclose(scales, centered, rtol=1e-4)
    for arm, first in (("base*0.25", plain[0]), ("pa*4", 16 * rewired[0])):
        _, _, scales = started(runner, arm)
        assert scales[0] == pytest.approx(first / 4, rel=1e-5)


def test_a_run_is_the_same_whenever_it_is_made(runner):
    numbers = runner.run("scaled", 1)
    runner.run("signals", 2)
    again = runner.run("scaled", 1)
    assert numbers.pop("seconds") > 0
    again.pop("seconds")
    assert again == numbers
    assert {"test_accuracy", "epoch_2_accuracy"} <= set(numbers)
    squares = [numbers[f"mean_square_{n}"] for n in range(1, 6)]
    _, _, scales = started(runner, "scaled", 1)
    np.testing.assert_allclose(squares, scales**2, rtol=1e-5)
    other = runner.run("scaled", 2)
    assert other["mean_square_1"] != numbers["mean_square_1"]


@pytest.mark.any_backend
def test_command_resumes(tmp_path, monkeypatch):
    cell = CELLS["he_normal"]._replace(arms=("base", "pa"), seeds=range(3, 6))
    images = cifar10.data.synthetic()
    runner = SimpleNamespace(run=lambda arm, seed: {"test_accuracy": 0.5})
    monkeypatch.setitem(CELLS, "he_normal", cell)
    monkeypatch.setattr(cifar10.map.data, "load", lambda folder: images)
    monkeypatch.setattr(cifar10.map, "Runner", lambda *_: runner)
    path = tmp_path / "he_normal.csv"

    def rows(*arguments):
        arguments = ["map.py", "--cells", "he_normal", *arguments]
        arguments += ["--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", arguments)
        cifar10.map.main()
        return [(r["arm"], int(r["seed"])) for r in cifar10.map_rows.read(path)]

    part = [("base", 4), ("pa", 4)]
    assert rows("--part", "1/2") == part
    # As if killed in the middle of a row.
    path.write_text(path.read_text()[:-9])
    (tmp_path / "STOP").touch()
    assert rows() == part[:1]
    (tmp_path / "STOP").unlink()
    rest = [("base", 3), ("pa", 3), ("pa", 4), ("base", 5), ("pa", 5)]
    assert rows() == part[:1] + rest
    assert rows() == part[:1] + rest
    assert (tmp_path / "environment.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_CELLS)
def test_large_networks(name, monkeypatch):
    sizes = {"depth": 1, "width": 24}
    if name == "sl_vit":
        sizes["heads"] = 2
    recipe = cifar10.models.RECIPES[name]
    small = recipe._replace(build=lambda base: recipe.build(base, **sizes))
    monkeypatch.setitem(cifar10.models.RECIPES, name, small)
    cell = LARGE_CELLS[name]._replace(batch_size=16)
    images = cifar10.data.synthetic(16, 16, 16)
    runner = cifar10.map.Runner(cell, images)
    numbers = [runner.run(arm, 0) for arm in ("pa", "scaled")]
    for key, value in numbers[0].items():
        if key.startswith("mean_square"):
            assert numbers[1][key] == pytest.approx(value, rel=1e-3)


# The plan and the report.


@pytest.mark.any_backend
def test_plan_and_cells_agree():
    plan = (EXAMPLES / "cifar10" / "MAP_PLAN.md").read_text()
    _, _, text = plan.partition("## Cells")
    planned = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            name, _, *signs = (part.strip() for part in line.split("|")[1:-1])
            planned[name.strip("`")] = "".join(sign[0] for sign in signs)
    assert planned == PREDICTED
    assert set(CELLS) - set(PREDICTED) == {
        "he_normal-first",
        "glorot_uniform-first",
    }
    networks = {(c.model, str(c.network)): c for c in CELLS.values()}
    for cell in networks.values():
        assert cifar10.map_networks.build(cell).output_shape == (None, 10)


def made_up(gains, name="he_normal", seeds=16, spread=0.002):
    """A `Found` with made-up rows."""
    noise = np.random.default_rng(1).normal(0.5, spread, (11, seeds))
    cell = CELLS[name]
    return cifar10.map_numbers.Found(
        name,
        [
            {
                "arm": arm,
                "seed": str(seed),
                "test_accuracy": noise[-1, i] + gains.get(arm, 0) + 0.2 * n,
                "mean_square_1": 2.0,
            }
            for arm, row in zip(cell.arms, noise - 0.5, strict=False)
            for i, (seed, n) in enumerate(
                zip(cell.seeds[:seeds], row, strict=True)
            )
        ],
    )


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("gains", "seeds", "scale", "wiring"),
    [
        ({"pa": 0.02, "scaled": 0.02}, 16, "stands", "falls"),
        ({"pa": 0.02, "scaled": 0.0}, 16, "falls", "stands"),
        ({"pa": 0.02, "scaled": -0.01}, 16, "falls", "stands"),
        ({"pa": 0.02, "scaled": 0.014}, 16, "stands", "falls"),
        ({}, 16, "open", "open"),
        ({"pa": -0.02, "scaled": 0.02}, 16, "open", "open"),
        ({"pa": 0.02, "scaled": 0.02}, 15, None, None),
    ],
)
def test_criteria(gains, seeds, scale, wiring):
    found = made_up(gains, seeds=seeds)
    judge = cifar10.map_numbers.criterion
    assert judge(found, "scale", "wiring") == scale
    assert judge(found, "wiring", "scale") == wiring


@pytest.mark.any_backend
def test_parts_of_similar_size_leave_a_criterion_open():
    found = made_up({"pa": 0.02, "scaled": 0.009}, spread=0.04)
    gain, scale, wiring = (
        found.difference(cifar10.map_numbers.PARTS[part])
        for part in ("gain", "scale", "wiring")
    )
    assert gain.low > 0
    assert wiring.mean > scale.mean
    assert wiring.low > 0 or scale.low > 0
    assert cifar10.map_numbers.criterion(found, "wiring", "scale") == "open"


@pytest.mark.any_backend
def test_intervals_by_hand():
    # 2.776 is the quantile of t with 4 degrees of freedom.
    found = cifar10.map_numbers.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451 * np.sqrt(2.5 / 5)
    np.testing.assert_allclose(found, [3, 3 - half, 3 + half])
    judge = cifar10.map_numbers.came_true
    assert [judge(sign, found) for sign in "+-0"] == [True, False, False]
    around = found._replace(low=-1)
    assert [judge(sign, around) for sign in "+-0"] == [None, None, True]


@pytest.mark.any_backend
def test_curves_by_hand():
    squares = np.array([[1.0, 4.0, 16.0]] * 3)
    plain = cifar10.map_numbers.Curve(
        squares, np.array([[50.0, 52.0, 51.0]] * 3)
    )
    # Twice as large: between two points, and one outside.
    points = np.array([[51.5, 52.0, 49.0], [51.6, 52.1, 0.0], [51.4, 51.9, 9]])
    rewired = cifar10.map_numbers.Curve(2 * squares, points)
    apart = cifar10.map_numbers.apart_at_the_same_scale(plain, rewired)
    # Plain at 2 and 8: 51 and 51.5.
    assert apart.mean == pytest.approx(0.5)
    best = cifar10.map_numbers.apart_at_the_best(plain, rewired)
    assert best.mean == pytest.approx(0.0)
    verdict = cifar10.map_numbers.curve_verdict
    assert verdict(apart._replace(low=-0.1, high=0.4)) == "one curve"
    assert verdict(apart._replace(low=0.1, high=0.9)) == "two curves"
    assert "less than" in verdict(apart._replace(low=0.1, high=0.4))
    assert verdict(apart._replace(low=-0.1, high=0.9)) == "undecided"


@pytest.mark.any_backend
def test_report(tmp_path, monkeypatch, capsys):
    gains = {"pa": 0.02, "scaled": 0.02}
    for name, seeds in (("he_normal", 16), ("mlp", 3), ("he_normal-first", 8)):
        found = made_up(gains, name, seeds)
        for row in found.rows.values():
            cifar10.map_rows.append(tmp_path / f"{name}.csv", row)
    paths = map(str, tmp_path.glob("*.csv"))
    arguments = ["map_report.py", *paths, "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    cifar10.map_report.main()
    text = capsys.readouterr().out
    assert text == (tmp_path / "map.md").read_text()
    assert "Incomplete: `mlp` (3 of 16 seeds). Not run: `glorot_uni" in text
    assert '"he_normal\'s gain is scale": **stands**.' in text
    assert "not judged yet; `glorot_uniform` has no seeds." in text
    line = next(x for x in text.splitlines() if x.startswith("| `he_normal`"))
    assert "16 of 16" in line and "+ yes" in line
    assert "- `he_normal`, 8 of 8 seeds: rewired minus plain" in text
    assert (tmp_path / "map.png").stat().st_size > 10_000


@pytest.mark.any_backend
def test_committed_report_is_that_of_the_committed_rows(
    tmp_path, monkeypatch, capsys
):
    results = EXAMPLES / "results" / "map"
    paths = map(str, results.glob("*.csv"))
    arguments = ["map_report.py", *paths, "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    cifar10.map_report.main()
    assert capsys.readouterr().out == (results / "map.md").read_text()


# What gradients share.


@pytest.mark.backend("jax")
def test_shared_part_by_hand():
    from cifar10.map_gradients import shared_part

    layer = keras.layers.Dense(3, use_bias=False)
    network = keras.Sequential([keras.Input((5,)), layer])
    inputs = RNG.normal(size=(4, 5)).astype("float32")
    signs = np.array([1.0, -1.0, 1.0], "float32")
    share = shared_part(network)([layer.kernel.value], [], inputs, signs)
    # The gradient of an image is the outer product of it and the signs.
    eigenvalues = np.linalg.eigvalsh(3 * inputs @ inputs.T)
    assert share == pytest.approx(eigenvalues[-1] / eigenvalues.sum(), 1e-4)


@pytest.mark.backend("jax")
@pytest.mark.parametrize(
    ("apart", "verdict"),
    [(0.1, "is supported"), (-0.1, "fails"), (None, "is not judged yet")],
)
def test_report_on_gradients(apart, verdict):
    from cifar10.map_gradients import ARMS, NAMES, report

    found, rows = {}, []
    for number, name in enumerate(NAMES[: 5 if apart is None else 11]):
        found[name] = made_up({"pa": 0.01 * number}, name)
        for arm in ARMS:
            share = 0.5 * np.exp((apart or 0.1) * number * (arm == "scaled"))
            for seed in range(1000, 1008):
                row = {"cell": name, "arm": arm, "seed": str(seed)}
                rows.append(row | {"share": str(share)})
    text = report(rows, found)
    assert text.endswith(f"The idea **{verdict}**.")
    assert "| `mlp` | " in text


@pytest.mark.backend("jax")
def test_committed_report_on_gradients(tmp_path, monkeypatch, capsys):
    from cifar10 import map_gradients

    for path in (EXAMPLES / "results" / "map").glob("*.csv"):
        (tmp_path / path.name).write_text(path.read_text())
    arguments = ["map_gradients.py", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    map_gradients.main()
    committed = EXAMPLES / "results" / "map" / "gradients.md"
    assert capsys.readouterr().out == committed.read_text()
