"""Makes the animation of the README and of the first page of this site.

    python docs/readme_animation.py

`animate_rewiring` draws it. Here its first and last frames are held for a
while, so that before and after can be looked at, and the file is made small.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageSequence

from keras_parewire import animate_rewiring

ROOT = Path(__file__).resolve().parents[1]
FIRST, EACH, LAST = 1500, 350, 3000  # milliseconds


def main(path):
    """Writes the animation."""
    # Of 200 kernels, the one whose variances rise least on their way down.
    kernel = np.random.default_rng(56).standard_normal((10, 7), np.float32)
    with (
        tempfile.TemporaryDirectory() as folder,
        plt.rc_context({"savefig.dpi": 75, "figure.dpi": 75, "font.size": 12}),
    ):
        drawn = Path(folder, "rewiring.gif")
        animate_rewiring(kernel, drawn, seed=0)
        with Image.open(drawn) as animation:
            frames = [
                frame.convert("RGB")
                for frame in ImageSequence.Iterator(animation)
            ]
    # One palette for all frames, so that only what changes is stored. The last
    # frame has all the colors.
    palette = frames[-1].quantize(64)
    frames = [
        frame.quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    ]
    durations = [FIRST, *[EACH] * (len(frames) - 2), LAST]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
        optimize=True,
    )
    print(f"Wrote {path}: {len(frames)} frames, {path.stat().st_size} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "examples/results/rewiring.gif"
    )
    main(parser.parse_args().out)
