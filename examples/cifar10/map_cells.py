"""The cells of the map: one network, trained in one way, from one base.

They stand in the order in which they are run, see `MAP_PLAN.md`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

ARMS = ("base", "pa", "scaled", "pa_up", "centered", "centered_scaled")
# Also the constants behind the kernels instead of the kernels.
WITH_SIGNALS = (*ARMS, "signals")
# Of the first kernel. Factor 1 is in the cell of the same base.
FACTORS = (0.125, 0.25, 0.5, 2, 4)
SEEDS = range(1000, 1016)
FIGURE_SEEDS = SEEDS[:8]
BATCH = {"normalization": "BatchNormalization"}
LAYER = {"normalization": "LayerNormalization"}


class Cell(NamedTuple):
    """A network and how it is trained.

    Attributes:
        base: The initializer of all kernels.
        network: Options of the network.
        model: `"cnn"`, `"mlp"`, or a network of `models.py`, which has no
            constants behind its kernels.
        epochs: Number of epochs.
        batch_size: Batch size of training.
        arms: The starts that are compared.
        seeds: The seeds of each arm.
    """

    base: str
    network: Mapping[str, Any] = MappingProxyType({})
    model: str = "cnn"
    epochs: int = 3
    batch_size: int = 128
    arms: tuple[str, ...] = ARMS
    seeds: range = SEEDS


def _figure(base):
    arms = [f"{arm}*{factor:g}" for factor in FACTORS for arm in ("base", "pa")]
    return Cell(base, arms=tuple(arms), seeds=FIGURE_SEEDS)


def _large(model, batch_size=128):
    return Cell(
        "orthogonal",
        model=model,
        epochs=1,
        batch_size=batch_size,
        arms=ARMS[:4],
        seeds=SEEDS[:10],
    )


CELLS = {
    "he_normal": Cell("he_normal", arms=WITH_SIGNALS),
    "glorot_uniform": Cell("glorot_uniform", arms=WITH_SIGNALS),
    "he_normal-first": _figure("he_normal"),
    "glorot_uniform-first": _figure("glorot_uniform"),
    "orthogonal": Cell("orthogonal"),
    "mlp": Cell("he_normal", model="mlp", arms=WITH_SIGNALS),
    "he_normal-batch": Cell("he_normal", BATCH),
    "glorot_uniform-batch": Cell("glorot_uniform", BATCH),
    "lecun_normal": Cell("lecun_normal"),
    "he_normal-tanh": Cell("he_normal", {"activation": "tanh"}),
    "he_normal-layer": Cell("he_normal", LAYER),
    "glorot_uniform-layer": Cell("glorot_uniform", LAYER),
    "mlp-positive": Cell("he_normal", {"positive": True}, "mlp"),
    "glorot_uniform-long": Cell("glorot_uniform", epochs=12),
}
# The first epoch of larger networks, for a GPU.
LARGE_CELLS = {
    "sl_vit": _large("sl_vit"),
    "convmixer": _large("convmixer", batch_size=512),
}

# The signs of scale and wiring that the plan predicts.
PREDICTED = {
    "he_normal": "+0",
    "glorot_uniform": "-+",
    "orthogonal": "0+",
    "mlp": "+-",
    "he_normal-batch": "+-",
    "glorot_uniform-batch": "+-",
    "lecun_normal": "++",
    "he_normal-tanh": "+-",
    "he_normal-layer": "+-",
    "glorot_uniform-layer": "+-",
    "mlp-positive": "+-",
    "glorot_uniform-long": "0+",
}
