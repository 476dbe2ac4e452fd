"""Draws small kernels as networks, for the README and the guide to the rule.

    python docs/network_pictures.py

Writes an animation, a frame for each neuron that the rule visits, and a picture
of a larger kernel before and after.
"""

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cm, colors
from matplotlib.collections import LineCollection
from PIL import Image

from keras_parewire import rewire

DOCS = Path(__file__).resolve().parent
sys.path.append(str(DOCS / "interactive"))

from rewiring_figure import after_first_pass  # noqa: E402

FIRST, EACH, LAST = 1500, 350, 3000  # Milliseconds.


def make_kernel(seed, shape):
    """Returns a kernel that is the same on every backend."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def frames_of(kernel):
    """Returns the kernel as it is, then after each neuron visited."""
    rewired = np.asarray(rewire(kernel, seed=0))
    halfway = after_first_pass(kernel, rewired)
    inputs, outputs = map(np.arange, kernel.shape)
    return [
        kernel,
        *(np.where(outputs <= j, halfway, kernel) for j in outputs),
        *(np.where(inputs[:, None] <= i, rewired, halfway) for i in inputs),
    ]


def scale_of(values):
    """Returns the colors of values: negative ones blue, positive ones red."""
    largest = np.abs(values).max()
    return cm.ScalarMappable(colors.CenteredNorm(0, largest), "coolwarm")


class Networks:
    """Draws kernels of one shape on the same scales."""

    def __init__(self, kernels):
        self.weight = scale_of(np.stack(kernels))
        self.strength = scale_of(
            np.concatenate([k.sum(side) for k in kernels for side in (0, 1)])
        )

    def draw(self, ax, kernel, title):
        """Draws the inputs on the left, the outputs on the right."""
        heights = [np.linspace(1, 0, count) for count in kernel.shape]
        # Strong connections go on top, so that weak ones do not hide them.
        order = np.argsort(np.abs(kernel), axis=None)
        weights = kernel.ravel()[order]
        inputs, outputs = np.unravel_index(order, kernel.shape)
        share = np.abs(weights) / self.weight.norm.halfrange
        ax.clear()
        ax.add_collection(
            LineCollection(
                [
                    ((0, heights[0][i]), (1, heights[1][j]))
                    for i, j in zip(inputs, outputs, strict=True)
                ],
                colors=self.weight.to_rgba(weights),
                linewidths=0.2 + 1.8 * share,
                alpha=0.2 + 0.8 * share,
                zorder=1,
            )
        )
        for side, strengths in enumerate((kernel.sum(1), kernel.sum(0))):
            share = np.abs(strengths) / self.strength.norm.halfrange
            ax.scatter(
                np.full(len(strengths), side),
                heights[side],
                s=(0.15 + 0.85 * share) * 4000 / (10 + max(kernel.shape)),
                c=self.strength.to_rgba(strengths),
                edgecolors="black",
                linewidths=0.5,
                zorder=2,
            )
        ax.set(xlim=(-0.15, 1.15), ylim=(-0.08, 1.08), yticks=[], title=title)
        ax.set_xticks([0, 1], ["inputs", "outputs"])
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)

    def add_colorbars(self, axes, location):
        """Adds a bar for each scale."""
        for scale, label in (
            (self.strength, "strength of a neuron (and its size)"),
            (self.weight, "weight of a connection"),
        ):
            axes[0].figure.colorbar(
                scale,
                ax=axes,
                label=label,
                location=location,
                shrink=0.9,
                aspect=30,
            )


def draw_animation(frames):
    """Returns the pictures of the frames."""
    variances = np.array(
        [[frame.sum(side).var(ddof=1) for side in (1, 0)] for frame in frames]
    )
    figure = plt.figure(figsize=(9, 5), layout="constrained", dpi=75)
    left, right = (half.subplots() for half in figure.subfigures(1, 2))
    networks = Networks(frames)
    networks.add_colorbars([left], "bottom")
    inputs, outputs = frames[0].shape
    pictures = []
    for index, frame in enumerate(frames):
        if index <= outputs:
            title = f"{index} of {outputs} output neurons visited"
        else:
            title = f"{index - outputs} of {inputs} input neurons visited"
        networks.draw(left, frame, title)
        right.clear()
        # Not blue and red, which are the signs of weights and strengths.
        for values, name, style in zip(
            variances.T, ("inputs", "outputs"), ("-", "--"), strict=True
        ):
            right.plot(values, color="0.85", linestyle=style)
            right.plot(
                values[: index + 1],
                "k",
                linestyle=style,
                marker="o",
                markevery=[index],
                label=name,
            )
        right.set(
            xlim=(-0.3, len(frames) - 0.7),
            ylim=(0, 1.05 * variances.max()),
            xticks=range(0, len(frames), 2),
            xlabel="neurons visited",
            ylabel="variance of strengths",
        )
        right.legend(loc="upper right")
        figure.canvas.draw()
        # All frames share the layout of the first; finding it is slow.
        figure.set_layout_engine("none")
        picture = np.asarray(figure.canvas.buffer_rgba())
        pictures.append(Image.fromarray(picture[..., :3].copy()))
    plt.close(figure)
    return pictures


def save_animation(pictures, path):
    """Writes a small GIF that holds its first and its last picture."""
    # One palette, so that only what changes is stored. The last picture has
    # all the colors.
    palette = pictures[-1].quantize(64)
    first, *others = (
        picture.quantize(palette=palette, dither=Image.Dither.NONE)
        for picture in pictures
    )
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=[FIRST, *[EACH] * (len(others) - 1), LAST],
        loop=0,
        optimize=True,
    )


def draw_before_and_after(kernel):
    """Draws a kernel and its rewired copy side by side."""
    kernels = kernel, np.asarray(rewire(kernel, seed=0))
    figure, axes = plt.subplots(1, 2, figsize=(9, 5), layout="constrained")
    networks = Networks(kernels)
    for ax, one, title in zip(axes, kernels, ("before", "after"), strict=True):
        networks.draw(ax, one, title)
    networks.add_colorbars(axes, "right")
    return figure


def main(folder):
    """Writes both pictures."""
    plt.rc("font", size=12)
    # Of 200 kernels, the one whose variances rise least on their way down.
    frames = frames_of(make_kernel(56, (10, 7)))
    save_animation(draw_animation(frames), folder / "rewiring.gif")
    figure = draw_before_and_after(make_kernel(0, (16, 10)))
    figure.savefig(folder / "connections.png", dpi=80)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=DOCS.parent / "examples" / "results"
    )
    main(parser.parse_args().out)
