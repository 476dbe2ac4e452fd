import itertools

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import as_array
from keras import layers
from matplotlib.collections import LineCollection
from PIL import Image

from keras_parewire import (
    animate_rewiring,
    plot_connections,
    plot_strengths,
    rewire,
    rewire_model,
    strength_variance,
    strengths,
)
from keras_parewire.visualization import connections


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


def test_a_report_is_drawn_before_and_after():
    report = rewire_model(dense_model(), seed=0)
    ax = plot_strengths(report)
    before, after = ax.get_lines()
    rows = [row for row in report if row.skipped is None]
    np.testing.assert_allclose(before.get_xdata(), [row.before for row in rows])
    np.testing.assert_allclose(after.get_xdata(), [row.after for row in rows])
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == [row.path for row in rows]
    assert ax.get_xlabel() == "strength variance"
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["before", "after"]


def test_a_model_is_drawn_as_it_is():
    model = dense_model()
    ax = plot_strengths(model)
    [line] = ax.get_lines()
    expected = [strength_variance(layer.kernel) for layer in model.layers]
    np.testing.assert_allclose(line.get_xdata(), expected)
    assert ax.get_legend() is None


def test_a_kernel_is_drawn_by_its_histograms(kernel):
    ax = plot_strengths(kernel)
    inputs, outputs = ax.containers
    assert sum(bar.get_height() for bar in inputs) == 48
    assert sum(bar.get_height() for bar in outputs) == 32
    assert ax.get_xlabel() == "strength"
    assert ax.get_ylabel() == "neurons"


def test_a_given_ax_is_drawn_into(kernel, small):
    _, given = plt.subplots(1, 3)
    assert plot_strengths(kernel, ax=given[0]) is given[0]
    assert plot_connections(small, ax=given[1]) is given[1]
    before, after = plot_connections((small, small), ax=given[:2])
    assert (before, after) == (given[0], given[1])
    with pytest.raises(ValueError, match="one axes for a kernel, two"):
        plot_connections(small, ax=given)


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
    before, after = plot_connections((small, rewire(small, seed=0)))
    assert (before.get_title(), after.get_title()) == ("before", "after")
    assert len(before.figure.axes) == 4  # Two pictures, two color bars.


def test_a_kernel_of_two_rows_is_no_pair():
    ax = plot_connections([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert ax.get_title() == ""


def test_the_animation_ends_in_the_rewired_kernel(tmp_path, small):
    animate_rewiring(small, tmp_path / "rewiring.gif", seed=3)
    frames = connections._frames(small.astype("float64"), 3)
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


def test_a_kernel_of_zeros(tmp_path):
    zeros = np.zeros((3, 2), "float32")
    plot_connections(zeros)
    animate_rewiring(zeros, tmp_path / "zeros.gif")


def test_what_cannot_be_drawn(tmp_path, kernel, small):
    large = np.ones((65, 3), "float32")
    with pytest.raises(ValueError, match=r"64 neurons or fewer .* \(65, 3\)"):
        plot_connections(large)
    with pytest.raises(ValueError, match="64 neurons or fewer"):
        animate_rewiring(large, tmp_path / "rewiring.gif")
    with pytest.raises(ValueError, match=r"must end in `.gif`.*rewiring.png"):
        animate_rewiring(small, tmp_path / "rewiring.png")
    with pytest.raises(TypeError, match=r"kernel=.model\.keras"):
        plot_strengths("model.keras")
    with pytest.raises(ValueError, match="must have one shape"):
        plot_connections((small, small[:5]))
    with pytest.raises(ValueError, match="must be kernels to draw"):
        plot_strengths(norm())
    with pytest.raises(TypeError, match="kernel='kernel'"):
        plot_connections("kernel")
    assert not list(tmp_path.iterdir())


def norm():
    layer = layers.LayerNormalization()
    layer.build((None, 3))
    return layer
