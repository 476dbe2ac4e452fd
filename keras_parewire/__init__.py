"""Weight organisation for Keras 3: better places for a random kernel's values.

See https://arxiv.org/abs/2207.08148 for the method.
"""

from importlib.metadata import version

from keras_parewire.diagnostics import strength_variance, strengths
from keras_parewire.initializers import PARewired, StrengthStabilized
from keras_parewire.rewiring import rewire

__version__ = version("keras_parewire")

__all__ = [
    "PARewired",
    "StrengthStabilized",
    "rewire",
    "strength_variance",
    "strengths",
]
