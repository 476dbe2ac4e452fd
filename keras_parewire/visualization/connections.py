"""Plots of small kernels as networks of neurons and connections."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from keras_parewire.rewiring.strengths import matrix_strengths
from keras_parewire.rewiring.values import Tensor
from keras_parewire.visualization.drawing import (
    check_plot_axes,
    finite_matrix,
    import_pyplot,
    new_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

# For strengths and weights alike: negative ones blue, positive ones red.
_COLORS = "coolwarm"
# With more neurons, one can no longer see single connections.
_MOST_NEURONS = 64


@overload
def plot_connections(
    kernel: Tensor, rewired: None = None, *, ax: "Axes | None" = None
) -> "Axes": ...
@overload
def plot_connections(
    kernel: Tensor, rewired: Tensor, *, ax: "Sequence[Axes] | None" = None
) -> "tuple[Axes, Axes]": ...
def plot_connections(
    kernel: Tensor,
    rewired: Tensor | None = None,
    *,
    ax: "Axes | Sequence[Axes] | None" = None,
) -> "Axes | tuple[Axes, ...]":
    """Plots a small kernel as a network of neurons and connections.

    Neurons are colored and sized by strength, connections by weight. A kernel
    and its rewired copy are drawn side by side on the same scales.

    Example:

    >>> kernel = keras.random.normal((8, 6), seed=0)
    >>> before, after = plot_connections(kernel, rewire(kernel, seed=0))
    >>> after.get_title()
    'after'

    Args:
        kernel: Tensor or array `(..., in, out)` with at most 64 neurons on each
            side.
        rewired: Optional second kernel of the same shape, drawn to the right of
            `kernel` under the titles "before" and "after".
        ax: The Matplotlib axes to plot into, a sequence of two if `rewired` is
            given. Defaults to a new figure's.

    Returns:
        The axes, a pair if `rewired` is given.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If a kernel is not a tensor or an array of real numbers, or
            `ax` is not one Matplotlib `Axes` for each kernel.
        ValueError: If a kernel has too many neurons, a rank below 2, NaN or
            infinite weights, or is being traced, or if the shapes differ.
    """
    matrices = [small_matrix(kernel)]
    if rewired is not None:
        matrices.append(small_matrix(rewired, "rewired"))
        if np.shape(kernel) != np.shape(rewired):
            raise ValueError(
                "`kernel` and `rewired` must have the same shape. "
                f"Received: kernel of shape {np.shape(kernel)}, rewired of "
                f"shape {np.shape(rewired)}"
            )
    count = len(matrices)
    axes = (
        new_axes((1 + 4 * count, 5), count)
        if ax is None
        else check_plot_axes(ax, count)
    )
    scales = ColorScales(matrices)
    titles = ("before", "after") if rewired is not None else ("",)
    for one, matrix, title in zip(axes, matrices, titles, strict=True):
        draw_connections(one, matrix, scales)
        one.set_title(title)
    scales.add_colorbars(axes)
    return axes if rewired is not None else axes[0]


class ColorScales:
    """The color scales that several networks share."""

    def __init__(self, matrices: Sequence[np.ndarray]) -> None:
        import_pyplot()
        from matplotlib import cm, colors

        strengths = [np.concatenate(matrix_strengths(m)) for m in matrices]
        # The scales of a kernel of zeros are arbitrary, but must not be empty.
        self.largest_weight: float = (
            max(float(np.abs(m).max()) for m in matrices) or 1.0
        )
        self.largest_strength: float = (
            max(float(np.abs(s).max()) for s in strengths) or 1.0
        )
        self.weight: ScalarMappable = cm.ScalarMappable(
            colors.CenteredNorm(0, self.largest_weight), _COLORS
        )
        self.strength: ScalarMappable = cm.ScalarMappable(
            colors.CenteredNorm(0, self.largest_strength), _COLORS
        )

    def add_colorbars(
        self, axes: "Sequence[Axes]", location: str = "right"
    ) -> None:
        """Adds a bar for each scale, by default to the right of the axes."""
        for scale, label in (
            (self.strength, "strength of a neuron (color and size)"),
            (self.weight, "weight of a connection"),
        ):
            axes[0].figure.colorbar(
                scale,
                ax=axes,
                label=label,
                location=location,
                shrink=0.8,
                aspect=30,
            )


def draw_connections(
    ax: "Axes", matrix: np.ndarray, scales: ColorScales
) -> None:
    """Draws the inputs on the left, the outputs on the right."""
    from matplotlib.collections import LineCollection

    heights = [np.linspace(1, 0, max(n, 2))[:n] for n in matrix.shape]
    lines = [
        ((0, heights[0][i]), (1, heights[1][j]))
        for i, j in np.ndindex(matrix.shape)
    ]
    weights = matrix.ravel()
    # Strong connections go on top, so that weak ones do not hide them.
    order = np.argsort(np.abs(weights))
    share = np.abs(weights[order]) / scales.largest_weight
    ax.add_collection(
        LineCollection(
            [lines[k] for k in order],
            colors=scales.weight.to_rgba(weights[order]),
            linewidths=0.2 + 1.8 * share,
            alpha=0.2 + 0.8 * share,
            zorder=1,
        )
    )
    largest = 4000 / (10 + max(matrix.shape))
    for side, strengths in enumerate(matrix_strengths(matrix)):
        share = np.abs(strengths) / scales.largest_strength
        ax.scatter(
            np.full(len(strengths), side),
            heights[side],
            s=largest * (0.15 + 0.85 * share),
            c=scales.strength.to_rgba(strengths),
            edgecolors="black",
            linewidths=0.5,
            zorder=2,
        )
    ax.set(xlim=(-0.15, 1.15), ylim=(-0.08, 1.08), yticks=[])
    ax.set_xticks([0, 1], ["inputs", "outputs"])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def small_matrix(kernel: Tensor, name: str = "kernel") -> np.ndarray:
    """Reads a kernel as a matrix with few enough neurons to be drawn."""
    matrix = finite_matrix(kernel, name)
    if max(matrix.shape) > _MOST_NEURONS:
        inputs, outputs = matrix.shape
        raise ValueError(
            f"`{name}` must have at most {_MOST_NEURONS} neurons on each side "
            f"for its connections to be drawn. Received: {name} of shape "
            f"{np.shape(kernel)} with {inputs} input and {outputs} output "
            "neurons"
        )
    return matrix
