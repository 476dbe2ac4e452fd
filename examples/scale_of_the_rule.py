"""Measures how far rewiring lowers the strength variance of small weights.

    python examples/scale_of_the_rule.py

The rule draws neurons with probabilities proportional to `P ** exponent`, with
`P = strengths + abs(min(strengths)) + 1`. The constant 1 has the unit of a
weight: the smaller the weights, the closer the draw is to a plain shuffle. The
script compares two remedies on square kernels of normal weights: a larger
exponent, and another constant, an `offset` in units of the standard deviation
(sd) of the strengths before rewiring. Changing the constant amounts to changing
the unit of the weights, so `rewire(kernel / offset)` has the same effect
without a change of the rule. Prints the factor by which the strength variance
falls: the mean over the draws and, in brackets, the minimum.
"""

import argparse

import numpy as np
from command_line import names, numbers

from keras_parewire import rewire, strength_variance

EXPONENTS = (1.0, 2.0, 4.0, 10.0, float("inf"))
OFFSETS = (1.0, 0.1, 0.01)


def measure(width, deviation, draws):
    """Returns the ratios of the remedies, and those of a plain shuffle."""
    remedies = {
        "shuffle": (0.0, None),
        **{f"exponent {e:g}": (e, None) for e in EXPONENTS},
        **{f"offset {o:g} sd": (1.0, o) for o in OFFSETS},
    }
    ratios = {name: [] for name in remedies}
    for draw in range(draws):
        generator = np.random.default_rng([width, draw])
        kernel = generator.standard_normal((width, width)).astype("float32")
        before = strength_variance(kernel)
        for name, (exponent, offset) in remedies.items():
            scale = deviation
            if offset is not None:
                # Expresses the weights in units of the offset.
                scale = 1 / (offset * np.sqrt(before))
            rewired = rewire(kernel * scale, exponent=exponent, seed=draw)
            after = strength_variance(rewired) / scale**2
            ratios[name].append(before / after)
    return ratios


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=numbers, default="64,256,768")
    parser.add_argument("--deviations", type=names, default="0.004,0.02,fan_in")
    parser.add_argument("--draws", type=int, default=5)
    arguments = parser.parse_args()
    titles = None
    for width in arguments.widths:
        for name in arguments.deviations:
            # Scaled by the fan, as `he_normal` does, here to a variance of
            # 1 / inputs.
            deviation = width**-0.5 if name == "fan_in" else float(name)
            ratios = measure(width, deviation, arguments.draws)
            if titles is None:
                titles = list(ratios)
                print("| width | standard deviation | ", end="")
                print(" | ".join(titles), "|")
                print("| --- " * (len(titles) + 2) + "|")
            cells = [
                f"{np.mean(found):.3g} [{np.min(found):.3g}]"
                for found in ratios.values()
            ]
            print(f"| {width} | {deviation:.3g} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
