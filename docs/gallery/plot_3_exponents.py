"""
The exponent family
===================

How far strength variance falls depends on the exponent of the attachment
probability: 1 is the rule of the paper, 0 a shuffle that ignores the strengths,
infinity greedy by strength. A lower variance does not mean a better network.
"""

import keras
import matplotlib.pyplot as plt

from keras_parewire import rewire, strength_variance, strengths

kernel = keras.initializers.Orthogonal(seed=0)((512, 4608))
exponents = (0, 0.5, 1, 2, 4, 10, float("inf"))
variances = {
    exponent: float(
        strength_variance(rewire(kernel, exponent=exponent, seed=0))
    )
    for exponent in exponents
}
print(f"before: {float(strength_variance(kernel)):.4f}")
for exponent, variance in variances.items():
    print(f"exponent {exponent}: {variance:.6f}")

# %%
# As a picture. The dashed line is the kernel before rewiring.

figure, ax = plt.subplots(figsize=(7, 3.8))
ax.axhline(float(strength_variance(kernel)), color="gray", linestyle="--")
ax.plot(range(len(exponents)), variances.values(), "o-")
ax.set_yscale("log")
ax.set_xticks(
    range(len(exponents)),
    ["∞" if e == float("inf") else f"{e:g}" for e in exponents],
)
ax.set(
    xlabel="exponent",
    ylabel="strength variance",
    title="Orthogonal kernel, 512 x 4608",
)
figure.tight_layout()

# %%
# The strengths of the 512 input neurons, before and after.

figure, ax = plt.subplots(figsize=(7, 3.8))
for name, values in {
    "before": kernel,
    "exponent 0": rewire(kernel, exponent=0, seed=0),
    "exponent 1": rewire(kernel, exponent=1, seed=0),
    "exponent 4": rewire(kernel, exponent=4, seed=0),
}.items():
    ax.hist(strengths(values).inputs, 60, histtype="step", label=name)
ax.set(xlabel="strength of an input neuron", ylabel="number of neurons")
ax.set_yscale("log")
ax.legend()
figure.tight_layout()
