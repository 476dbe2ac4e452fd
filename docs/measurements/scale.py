"""Measures how the scale of the weights changes what rewiring does.

    python docs/measurements/scale.py

Writes `scale.md` beside itself: by how much the strength variance of a normal
kernel falls, for three scales of its weights and several exponents.
"""

from pathlib import Path

import numpy as np

from keras_parewire import rewire, strength_variance

EXPONENTS = (1, 2, 4, 10, float("inf"))
SCALES = {"fan-in": None, "0.02": 0.02, "0.004": 0.004}


def main():
    """Measures and writes the table."""
    lines = [
        "| kernel | standard deviation | variance before | "
        + " | ".join(
            "greedy" if e == float("inf") else f"exponent {e}"
            for e in EXPONENTS
        )
        + " |",
        "|" + " --- |" * (3 + len(EXPONENTS)),
    ]
    for size in (768, 64):
        drawn = np.random.default_rng(0).standard_normal((size, size))
        for name, scale in SCALES.items():
            scale = scale or size**-0.5
            kernel = (scale * drawn).astype("float32")
            before = float(strength_variance(kernel))
            factors = [
                before
                / float(strength_variance(rewire(kernel, exponent=e, seed=0)))
                for e in EXPONENTS
            ]
            label = f"{scale:.3f} ({name})" if name == "fan-in" else name
            lines.append(
                f"| {size} x {size} | {label} | {before:.2g} | "
                + " | ".join(
                    f"{factor:,.0f} times"
                    if factor >= 20
                    else f"{factor:.1f} times"
                    for factor in factors
                )
                + " |"
            )
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
