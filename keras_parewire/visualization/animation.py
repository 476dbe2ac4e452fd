"""Animation of a small kernel being rewired, neuron by neuron."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_parewire.rewiring import host_engine
from keras_parewire.rewiring.noise import host_noise
from keras_parewire.rewiring.seeding import Seed, check_seed, noise_key
from keras_parewire.rewiring.strengths import matrix_strengths
from keras_parewire.rewiring.values import Tensor
from keras_parewire.visualization.connections import (
    ColorScales,
    draw_connections,
    small_matrix,
)
from keras_parewire.visualization.drawing import import_pyplot

_FRAMES_PER_SECOND = 8


def animate_rewiring(
    kernel: Tensor, path: str | Path, *, seed: Seed = None
) -> None:
    """Writes an animated GIF of a small kernel being rewired.

    There is one frame for each neuron visited, first the output neurons and
    then the input neurons, with the strength variances plotted beside it. A
    frame takes about 0.1 s for a kernel of 16 inputs and 10 outputs, and
    several times that for 64 and 64.

    Example:

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "rewiring.gif")
    >>> animate_rewiring(keras.random.normal((6, 4), seed=0), path, seed=0)
    >>> os.path.exists(path)
    True

    Args:
        kernel: Tensor or array `(..., in, out)` with at most 64 neurons on each
            side.
        path: The file to write, ending in `.gif`.
        seed: An integer, a `keras.random.SeedGenerator`, or None for a random
            seed. The last frame shows `rewire(kernel, seed=seed)`.

    Raises:
        ImportError: If Matplotlib is not installed.
        TypeError: If `kernel` is not a tensor or an array of real numbers.
        ValueError: If the kernel has too many neurons, a rank below 2, NaN or
            infinite weights, or is being traced, or if the path does not end in
            `.gif`.
    """
    path = Path(path)
    if path.suffix != ".gif":
        raise ValueError(
            f"`path` must end in `.gif`. Received: path={str(path)!r}"
        )
    matrix = small_matrix(kernel)
    frames = _frames(matrix, noise_key(check_seed(seed)))
    variances = np.array([_side_variances(frame) for frame in frames])
    plt = import_pyplot()
    from matplotlib.animation import FuncAnimation, PillowWriter
    from matplotlib.ticker import MaxNLocator

    figure = plt.figure(figsize=(9, 5), layout="constrained")
    left, right = (half.subplots() for half in figure.subfigures(1, 2))
    scales = ColorScales(frames)
    scales.add_colorbars([left], location="bottom")

    def draw(index: int) -> None:
        if index == 1:
            # All frames share the layout of the first; finding it is slow.
            figure.set_layout_engine("none")
        left.clear()
        draw_connections(left, frames[index], scales)
        outputs = matrix.shape[1]
        left.set_title(
            f"{index} output neurons visited"
            if index <= outputs
            else f"{index - outputs} input neurons visited"
        )
        right.clear()
        # Not blue and red, which are the signs of weights and strengths.
        for values, name, style in zip(
            variances.T, ("inputs", "outputs"), ("-", "--"), strict=True
        ):
            right.plot(values[: index + 1], "k", linestyle=style, label=name)
        right.set(
            xlim=(0, len(frames) - 1),
            ylim=(0, 1.05 * variances.max() or 1),
            xlabel="neurons visited",
            ylabel="variance of their strengths",
        )
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.legend(loc="upper right")

    animation = FuncAnimation(figure, draw, frames=len(frames))
    try:
        animation.save(path, PillowWriter(_FRAMES_PER_SECOND))
    finally:
        plt.close(figure)


def _side_variances(matrix: np.ndarray) -> list[float]:
    """Returns the strength variances of the inputs and of the outputs."""
    return [
        float(np.var(side, ddof=1)) if len(side) > 1 else 0.0
        for side in matrix_strengths(matrix)
    ]


def _frames(matrix: np.ndarray, key: Sequence[int]) -> list[np.ndarray]:
    """Returns the matrix as it is, then after each neuron visited."""
    by_outputs, by_inputs = host_noise(key, 1.0)
    frames = [matrix]
    # A neuron's weights are final once it has been visited, so each frame can
    # be put together from the matrices before and after the whole pass.
    rows = matrix.T.copy()
    host_engine.rewire_rows(rows, by_outputs, 1.0)
    for visited in range(1, len(rows) + 1):
        frame = matrix.copy()
        frame[:, :visited] = rows[:visited].T
        frames.append(frame)
    halfway, rows = frames[-1], frames[-1].copy()
    host_engine.rewire_rows(rows, by_inputs, 1.0)
    for visited in range(1, len(rows) + 1):
        frame = halfway.copy()
        frame[:visited] = rows[:visited]
        frames.append(frame)
    return frames
