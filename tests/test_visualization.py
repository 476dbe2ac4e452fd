import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers, ops

from keras_parewire import (
    plot_strength_variances,
    plot_strengths,
    rewire_model,
    strength_variance,
    strengths,
)

pytestmark = pytest.mark.any_backend


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


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
    ax = plot_strengths(ops.convert_to_tensor(kernel))
    for bars, side in zip(ax.containers, strengths(kernel), strict=True):
        edges = [bar.get_x() for bar in bars]
        edges.append(edges[-1] + bars[-1].get_width())
        expected, _ = np.histogram(side, edges)
        heights = [bar.get_height() for bar in bars]
        np.testing.assert_allclose(heights, expected, atol=1)
        assert sum(heights) == len(side)
    assert ax.get_xlabel() == "strength"
    assert ax.get_ylabel() == "number of neurons"


def plot_model(kernel, ax=None):
    layer = layers.Dense(np.shape(kernel)[-1], use_bias=False)
    layer.build((None, len(kernel)))
    layer.kernel.assign(kernel)
    return plot_strength_variances(layer, ax=ax)


EACH = pytest.mark.parametrize("plot", [plot_strengths, plot_model])


@EACH
def test_axes_are_drawn_into_and_nothing_is_shown(plot, kernel, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("shown"))
    _, given = plt.subplots(1, 3)
    assert plot(kernel, ax=given[1]) is given[1]
    assert not given[0].has_data() and not given[2].has_data()
    for wrong in (3, "ax", given):
        with pytest.raises(TypeError, match="`ax` must be a Matplotlib `Axes`"):
            plot(kernel, ax=wrong)
    assert plt.get_fignums() == [1]


@EACH
@pytest.mark.parametrize("weight", [np.inf, np.nan])
def test_only_finite_weights_are_plotted(plot, weight):
    kernel = np.array([[1, weight, 2], [3, 4, 5]], "float32")
    with pytest.raises(ValueError, match=r"must be finite.*shape \(2, 3\)"):
        plot(kernel)
    assert not plt.get_fignums()


@EACH
def test_matplotlib_is_an_extra(plot, monkeypatch, kernel):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"`pip install .*\[plot\]`"):
        plot(kernel)


def test_what_has_no_strengths():
    for values in ("kernel", [[1.0, 2.0], [3.0]], np.ones((2, 3), bool)):
        with pytest.raises(TypeError, match="array of real numbers"):
            plot_strengths(values)
    with pytest.raises(ValueError, match="must be of rank 2 or more"):
        plot_strengths(np.ones(3, "float32"))
    with pytest.raises(TypeError, match="a Keras model or a `StrengthReport`"):
        plot_strength_variances(np.ones((2, 3)))
    layer = layers.LayerNormalization()
    layer.build((None, 3))
    with pytest.raises(ValueError, match="must have kernels to plot"):
        plot_strength_variances(layer)
    assert not plt.get_fignums()
