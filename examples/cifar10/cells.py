"""The cells of the map: one network, trained in one way, from one base.

Each is a dict of options of `train.py`, whose `--cell` takes its name. They
stand in the order of what they tell, see `PLAN.md`.
"""

ARMS = ["base", "pa", "centered", "outputs", "inputs"]
STABILIZED = [*ARMS, "stabilized", "pa_stabilized"]
BATCH = {"normalization": "BatchNormalization"}
LAYER = {"normalization": "LayerNormalization"}

CELLS = {
    "he_normal": {"base": "he_normal"},
    "he_normal-batch": {"base": "he_normal", "network": BATCH},
    "mlp-positive": {
        "model": "mlp",
        "base": "he_normal",
        "network": {"positive": True},
    },
    "he_normal-tanh": {"base": "he_normal", "network": {"activation": "tanh"}},
    "he_normal-layer": {"base": "he_normal", "network": LAYER},
    "glorot_uniform": {"base": "glorot_uniform"},
    "mlp": {"model": "mlp", "base": "he_normal"},
    "he_normal-sgd": {
        "base": "he_normal",
        "optimizer": "sgd",
        "learning_rate": 0.3,
    },
    "orthogonal": {"base": "orthogonal", "arms": STABILIZED},
    "he_normal-gelu": {"base": "he_normal", "network": {"activation": "gelu"}},
    "he_normal-long": {"base": "he_normal", "epochs": 12},
    "glorot_uniform-batch": {"base": "glorot_uniform", "network": BATCH},
    "orthogonal-batch": {
        "base": "orthogonal",
        "network": BATCH,
        "arms": STABILIZED,
    },
    "he_normal-deep": {"base": "he_normal", "network": {"repeats": 2}},
    "he_normal-wide": {"base": "he_normal", "network": {"width": 2}},
}


def cell_options(name):
    """Returns the options of a cell, with those that most cells share."""
    common = {"model": "small_cnn", "arms": ARMS, "epochs": 3, "margin": 0.3}
    return {**common, **CELLS[name]}
