import itertools
import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import as_array
from keras import layers, ops
from matplotlib.collections import LineCollection
from PIL import Image

from keras_parewire import (
    StrengthReport,
    animate_rewiring,
    plot_connections,
    plot_strength_variances,
    plot_strengths,
    rewire,
    rewire_model,
    strength_variance,
    strengths,
)
from keras_parewire.models.strength_table import ReportRow
from keras_parewire.rewiring.seeding import noise_key
from keras_parewire.visualization import animation

pytestmark = pytest.mark.any_backend


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def small(kernel):
    return kernel[:12, :7]


def dense_model():
    return keras.Sequential(
        [keras.Input((64,)), layers.Dense(32), layers.Dense(16)]
    )


def test_a_report_is_plotted_before_and_after():
    report = rewire_model(dense_model(), seed=0)
    ax = plot_strength_variances(report)
    before, after = ax.get_lines()
    rows = [row for row in report if row.skipped is None]
    np.testing.assert_allclose(before.get_xdata(), [row.before for row in rows])
    np.testing.assert_allclose(after.get_xdata(), [row.after for row in rows])
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == [row.path for row in rows]
    assert ax.get_xlabel() == "strength variance"
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["before", "after"]


def test_a_model_is_plotted_as_it_is():
    model = dense_model()
    ax = plot_strength_variances(model)
    [line] = ax.get_lines()
    expected = [strength_variance(layer.kernel) for layer in model.layers]
    np.testing.assert_allclose(line.get_xdata(), expected)
    assert ax.get_legend() is None


def test_strengths_are_plotted_as_histograms(kernel):
    ax = plot_strengths(kernel)
    inputs, outputs = ax.containers
    assert sum(bar.get_height() for bar in inputs) == 48
    assert sum(bar.get_height() for bar in outputs) == 32
    assert ax.get_xlabel() == "strength"
    assert ax.get_ylabel() == "neurons"


def test_given_axes_are_used(kernel, small):
    _, given = plt.subplots(1, 3)
    assert plot_strengths(kernel, ax=given[0]) is given[0]
    assert plot_connections(small, ax=given[1]) is given[1]
    assert plot_strength_variances(dense_model(), ax=given[2]) is given[2]
    assert plot_connections(small, small, ax=given[:2]) == tuple(given[:2])
    assert plt.get_fignums() == [1]


@pytest.mark.parametrize(
    ("plot", "wanted"),
    [
        (plot_strengths, "a Matplotlib `Axes`"),
        (plot_connections, "a Matplotlib `Axes`"),
        (
            lambda kernel, ax: plot_connections(kernel, kernel, ax=ax),
            "a sequence of 2 Matplotlib `Axes`",
        ),
        (
            lambda _, ax: plot_strength_variances(dense_model(), ax=ax),
            "a Matplotlib `Axes`",
        ),
    ],
    ids=["strengths", "connections", "pair", "variances"],
)
def test_what_are_not_axes(plot, wanted, small):
    _, three = plt.subplots(1, 3)
    for wrong in (3, "ax", three):
        with pytest.raises(TypeError, match=f"`ax` must be {wanted}. Rec"):
            plot(small, ax=wrong)
    assert all(not ax.has_data() for ax in three)
    assert plt.get_fignums() == [1]


def test_nothing_is_shown(monkeypatch, kernel, small):
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("shown"))
    plot_strengths(kernel)
    plot_connections(small)


def test_connections(small):
    ax = plot_connections(small)
    [lines] = [c for c in ax.collections if isinstance(c, LineCollection)]
    # The strongest on top, from its input to its output.
    i, j = np.unravel_index(np.abs(small).argmax(), small.shape)
    (_, start), (_, end) = lines.get_segments()[-1]
    assert start == pytest.approx(1 - i / 11)
    assert end == pytest.approx(1 - j / 6)
    assert len(lines.get_segments()) == small.size
    inputs, outputs = (c for c in ax.collections if c is not lines)
    for points, side in zip((inputs, outputs), strengths(small), strict=True):
        np.testing.assert_array_equal(
            np.argsort(points.get_sizes()), np.argsort(np.abs(side))
        )
    labels = [axis.get_ylabel() for axis in ax.figure.axes]
    assert "weight of a connection" in labels
    assert "strength of a neuron (color and size)" in labels


def test_two_kernels_share_their_scales(small):
    before, after = plot_connections(small, rewire(small, seed=0))
    assert (before.get_title(), after.get_title()) == ("before", "after")
    assert len(before.figure.axes) == 4  # Two pictures, two color bars.


def test_a_list_of_two_rows_is_a_kernel():
    ax = plot_connections([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    [lines] = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert len(lines.get_segments()) == 6


@pytest.mark.slow
def test_the_animation_ends_in_the_rewired_kernel(tmp_path, small):
    animate_rewiring(small, tmp_path / "rewiring.gif", seed=3)
    frames = animation._frames(small.astype("float64"), noise_key(3))
    with Image.open(tmp_path / "rewiring.gif") as image:
        assert image.n_frames == len(frames) == 1 + 7 + 12
    np.testing.assert_array_equal(frames[0], small)
    np.testing.assert_array_equal(frames[-1], as_array(rewire(small, seed=3)))
    for one, other in itertools.pairwise(frames):
        np.testing.assert_array_equal(
            np.sort(one, axis=None), np.sort(other, axis=None)
        )
        # One neuron at a time.
        changed = one != other
        assert changed.any(axis=0).sum() <= 1 or changed.any(axis=1).sum() <= 1
    assert not plt.get_fignums()


@pytest.mark.slow
def test_a_kernel_of_zeros(tmp_path):
    zeros = np.zeros((3, 2), "float32")
    plot_connections(zeros)
    animate_rewiring(zeros, tmp_path / "zeros.gif")


def animate(kernel, path="unused.gif"):
    animate_rewiring(kernel, path)


EACH = pytest.mark.parametrize(
    "plot",
    [
        plot_strengths,
        plot_connections,
        lambda kernel: plot_connections(np.ones((2, 3), "float32"), kernel),
        animate,
    ],
    ids=["strengths", "connections", "pair", "animation"],
)


@EACH
@pytest.mark.parametrize(
    "values",
    [
        "kernel",
        object(),
        [[1.0, 2.0, 3.0], [4.0, 5.0]],
        [[True, False, True]] * 2,
        np.ones((2, 3), bool),
        [[1.0, 2.0j, 3.0]] * 2,
        np.ones((2, 3), "complex64"),
        np.full((2, 3), object()),
        np.zeros((2, 3), "datetime64[s]"),
    ],
    ids=[
        "string",
        "object",
        "ragged",
        "list of bools",
        "bools",
        "list of complex",
        "complex",
        "objects",
        "dates",
    ],
)
def test_only_real_numbers_are_plotted(plot, values):
    with pytest.raises(TypeError, match=r"array of real numbers\. Received: "):
        plot(values)
    assert not plt.get_fignums()


@EACH
def test_kernels_are_not_guessed_from_a_sequence(plot, kernel):
    tensor = ops.convert_to_tensor(kernel)
    for several in ((kernel, kernel), [kernel] * 3, (tensor, tensor)):
        with pytest.raises(TypeError, match="must be a single tensor or array"):
            plot(several)
    assert not plt.get_fignums()


@EACH
@pytest.mark.parametrize("weight", [np.inf, np.nan])
def test_only_finite_weights_are_plotted(plot, weight):
    kernel = np.array([[1, weight, 2], [3, 4, 5]], "float32")
    with pytest.raises(ValueError, match=r"must be finite.*shape \(2, 3\)"):
        plot(kernel)
    assert not plt.get_fignums()


@EACH
def test_vectors_are_not_plotted(plot):
    with pytest.raises(ValueError, match="must be of rank 2 or more"):
        plot(np.ones(3, "float32"))


def test_integers_are_plotted():
    plot_strengths([[1, 2, 3], [4, 5, 6]])
    plot_connections(np.arange(6).reshape(2, 3))


def test_infinite_strength_variances():
    row = ReportRow("a/kernel", (2, 3), 2, 3, 1, before=1.0, after=np.inf)
    with pytest.raises(ValueError, match=r"finite.*a/kernel with 1\.0 before"):
        plot_strength_variances(StrengthReport((row,), seed=0))
    model = dense_model()
    model.layers[1].kernel.assign(ops.full((32, 16), np.inf))
    with pytest.raises(ValueError, match="finite"):
        plot_strength_variances(model)
    assert not plt.get_fignums()


def test_networks_are_small(tmp_path):
    large = np.ones((65, 3), "float32")
    message = (
        r"at most 64 neurons .* \(65, 3\) with 65 input and 3 output neurons"
    )
    with pytest.raises(ValueError, match=message):
        plot_connections(large)
    with pytest.raises(ValueError, match=message):
        animate_rewiring(large, tmp_path / "rewiring.gif")
    assert not list(tmp_path.iterdir())


def test_an_animation_is_a_gif(tmp_path, small):
    with pytest.raises(ValueError, match=r"must end in `.gif`.*rewiring.png"):
        animate_rewiring(small, tmp_path / "rewiring.png")
    assert not list(tmp_path.iterdir())


def test_two_kernels_are_of_one_shape(small):
    with pytest.raises(ValueError, match=r"same shape.*\(12, 7\).*\(5, 7\)"):
        plot_connections(small, small[:5])


def test_models_without_kernels():
    with pytest.raises(ValueError, match="must have kernels to plot"):
        plot_strength_variances(norm())


def test_kernels_have_no_variances_to_plot(kernel):
    with pytest.raises(TypeError, match="a Keras model or a `StrengthReport`"):
        plot_strength_variances(kernel)


@EACH
def test_matplotlib_is_an_extra(plot, monkeypatch, small):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"`pip install .*\[plot\]`"):
        plot(small[:2, :3])


def norm():
    layer = layers.LayerNormalization()
    layer.build((None, 3))
    return layer
