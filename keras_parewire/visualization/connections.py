"""Pictures of small kernels as neurons and connections."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from keras_parewire.rewiring import numpy_engine
from keras_parewire.rewiring.layouts import kernel_layout
from keras_parewire.rewiring.seeding import (
    Seed,
    check_seed,
    integer_seed,
    noise_stream,
)
from keras_parewire.rewiring.strengths import matrix_strengths
from keras_parewire.rewiring.validation import (
    Tensor,
    as_tensor,
    check_float,
    finite_values,
)

# Of strengths and weights alike: negative ones blue, positive ones red.
_COLORS = "coolwarm"
# With more, single connections can no longer be told apart.
_MOST_NEURONS = 64
_FRAMES_PER_SECOND = 8


def plot_connections(kernel: Tensor | Sequence[Tensor], ax: Any = None) -> Any:
    """Draws a small kernel as neurons and the connections between them.

    Neurons are colored and sized by their strength, connections by their
    weight, all on one scale.

    Example:

    >>> kernel = keras.random.normal((8, 6), seed=0)
    >>> before, after = plot_connections((kernel, rewire(kernel, seed=0)))
    >>> after.get_title()
    'after'

    Args:
        kernel: A tensor or array `(..., in, out)` of at most 64 neurons on each
            side, or a pair of two of one shape, drawn side by side as before
            and after.
        ax: The Matplotlib axes to draw into, two of them for a pair. Defaults
            to new ones.

    Returns:
        The axes, two of them for a pair.

    Raises:
        ImportError: If Matplotlib is not installed.
        ValueError: If a kernel has too many neurons, or a pair's shapes
            differ.
    """
    pair = isinstance(kernel, list | tuple) and len(kernel) == 2
    pair = pair and np.ndim(ops.convert_to_numpy(kernel[0])) > 1
    matrices = [_small_matrix(one) for one in (kernel if pair else [kernel])]
    if len({matrix.shape for matrix in matrices}) > 1:
        raise ValueError(
            "Two kernels must have one shape to be drawn side by side. "
            f"Received: matrices of shapes {[m.shape for m in matrices]}"
        )
    if ax is None:
        import matplotlib.pyplot as plt

        width = 1 + 4 * len(matrices)
        ax = plt.subplots(
            1, len(matrices), figsize=(width, 5), layout="constrained"
        )[1]
    axes = np.ravel(ax)
    if len(axes) != len(matrices):
        raise ValueError(
            "`ax` must be one axes for a kernel, two for a pair. "
            f"Received: {len(axes)} axes for {len(matrices)} kernels"
        )
    scales = _Scales(matrices)
    titles = ("before", "after") if pair else ("",)
    for axis, matrix, title in zip(axes, matrices, titles, strict=True):
        _draw_connections(axis, matrix, scales)
        axis.set_title(title)
    scales.add_colorbars(list(axes))
    return tuple(axes) if pair else axes[0]


def animate_rewiring(
    kernel: Tensor, path: str | Path, *, seed: Seed = None
) -> None:
    """Writes an animated GIF of a small kernel being rewired.

    A frame for each neuron visited: first the output neurons, then the input
    neurons, and the strength variance beside it. That takes a tenth of a second
    each for a kernel of 16 inputs and 10 outputs, several times that for 64 and
    64.

    Example:

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "rewiring.gif")
    >>> animate_rewiring(keras.random.normal((6, 4), seed=0), path, seed=0)
    >>> os.path.exists(path)
    True

    Args:
        kernel: A tensor or array `(..., in, out)` of at most 64 neurons on each
            side.
        path: The file to write.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a new
            draw. The last frame is `rewire(kernel, seed=seed)`.

    Raises:
        ImportError: If Matplotlib is not installed.
        ValueError: If the kernel has too many neurons, or the path does not end
            in `.gif`.
    """
    import matplotlib.pyplot as plt
    from matplotlib.animation import FuncAnimation, PillowWriter

    path = Path(path)
    if path.suffix != ".gif":
        raise ValueError(
            f"`path` must end in `.gif`. Received: path={str(path)!r}"
        )
    matrix = _small_matrix(kernel)
    number = integer_seed(check_seed(seed))
    frames = _frames(matrix, number)
    variances = [_variances(frame) for frame in frames]
    scales = _Scales(frames)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 5), layout="constrained"
    )
    scales.add_colorbars([left])

    def draw(number: int) -> None:
        if number == 1:
            # What is laid out stays, and spares the other frames the work.
            figure.set_layout_engine("none")
        left.clear()
        _draw_connections(left, frames[number], scales)
        visits = matrix.shape[1]
        side, visited = ("output", number)
        if number > visits:
            side, visited = ("input", number - visits)
        left.set_title(f"{visited} {side} neurons visited")
        right.clear()
        for values, name in zip(
            np.transpose(variances), ("inputs", "outputs"), strict=True
        ):
            right.plot(values[: number + 1], label=name)
        right.set(
            xlim=(0, len(frames) - 1),
            ylim=(0, 1.05 * np.max(variances) or 1),
            xlabel="neurons visited",
            ylabel="variance of their strengths",
        )
        right.legend(loc="upper right")

    animation = FuncAnimation(figure, draw, frames=len(frames))
    try:
        animation.save(path, PillowWriter(_FRAMES_PER_SECOND))
    finally:
        plt.close(figure)


class _Scales:
    """The color scales that several pictures share."""

    def __init__(self, matrices: Sequence[np.ndarray]) -> None:
        from matplotlib import cm, colors

        self.weight, self.strength = (
            cm.ScalarMappable(colors.CenteredNorm(0, limit or 1.0), _COLORS)
            for limit in (
                max(np.abs(m).max() for m in matrices),
                max(
                    np.abs(np.concatenate(matrix_strengths(m))).max()
                    for m in matrices
                ),
            )
        )

    def add_colorbars(self, axes: list[Any]) -> None:
        for scale, label in (
            (self.strength, "strength of a neuron (color and size)"),
            (self.weight, "weight of a connection"),
        ):
            axes[0].figure.colorbar(
                scale, ax=axes, label=label, shrink=0.8, aspect=30
            )


def _draw_connections(ax: Any, matrix: np.ndarray, scales: _Scales) -> None:
    from matplotlib.collections import LineCollection

    places = [np.linspace(1, 0, max(n, 2))[:n] for n in matrix.shape]
    lines = [
        ((0, places[0][i]), (1, places[1][j]))
        for i, j in np.ndindex(matrix.shape)
    ]
    weights = matrix.ravel()
    # Strong connections on top, and not lost among the weak.
    order = np.argsort(np.abs(weights))
    share = np.abs(weights[order]) / scales.weight.norm.vmax
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
    for side, (values, heights) in enumerate(
        zip(matrix_strengths(matrix), places, strict=True)
    ):
        share = np.abs(values) / scales.strength.norm.vmax
        ax.scatter(
            np.full(len(values), side),
            heights,
            s=largest * (0.15 + 0.85 * share),
            c=scales.strength.to_rgba(values),
            edgecolors="black",
            linewidths=0.5,
            zorder=2,
        )
    ax.set(xlim=(-0.15, 1.15), ylim=(-0.08, 1.08), yticks=[])
    ax.set_xticks([0, 1], ["inputs", "outputs"])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def _small_matrix(kernel: Tensor) -> np.ndarray:
    kernel = as_tensor(kernel, "kernel")
    check_float(kernel.dtype)
    values = finite_values(kernel)
    if values is None:
        raise ValueError(
            "A kernel cannot be drawn while it is being traced. "
            f"Received: kernel={kernel}"
        )
    layout = kernel_layout(values.shape)
    _, inputs, outputs = layout.stack_shape
    if max(inputs, outputs) > _MOST_NEURONS:
        raise ValueError(
            f"A kernel must have {_MOST_NEURONS} neurons or fewer on each side "
            "to be drawn by its connections. Received: a kernel of shape "
            f"{values.shape} with {inputs} and {outputs}"
        )
    matrix: np.ndarray = layout.to_stack(values, np)[0]
    return matrix.astype(np.float64)


def _variances(matrix: np.ndarray) -> list[float]:
    """The variances of the strengths of the inputs and of the outputs."""
    return [
        float(np.var(side, ddof=1)) if len(side) > 1 else 0.0
        for side in matrix_strengths(matrix)
    ]


def _frames(matrix: np.ndarray, seed: int) -> list[np.ndarray]:
    """The matrix after each neuron visited, untouched at first."""
    draw = noise_stream(seed, 1.0)
    frames = [matrix]
    # A neuron's weights are final once it has been visited, so the passes'
    # results tell what is between.
    rows = matrix.T.copy()
    numpy_engine.rewire_rows(rows, draw, 1.0, 1)
    for visited in range(1, len(rows) + 1):
        frame = matrix.copy()
        frame[:, :visited] = rows[:visited].T
        frames.append(frame)
    halfway, rows = frames[-1], frames[-1].copy()
    numpy_engine.rewire_rows(rows, draw, 1.0, 1)
    for visited in range(1, len(rows) + 1):
        frame = halfway.copy()
        frame[:visited] = rows[:visited]
        frames.append(frame)
    return frames
