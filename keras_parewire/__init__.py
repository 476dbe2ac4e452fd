"""Weight organisation for Keras 3: better places for a random kernel's values.

See https://arxiv.org/abs/2207.08148 for the method.
"""

from importlib.metadata import version

from keras_parewire.averaging import ChannelAverage
from keras_parewire.axes import register_axes
from keras_parewire.connections import animate_rewiring, plot_connections
from keras_parewire.diagnostics import strength_variance, strengths
from keras_parewire.initializers import PARewired, StrengthStabilized
from keras_parewire.models import rewire_model, strength_report
from keras_parewire.permutation import LookaheadPermutation
from keras_parewire.plots import plot_strengths
from keras_parewire.reinitialization import reinitialize, strip
from keras_parewire.report import RewireReport
from keras_parewire.rewiring import rewire
from keras_parewire.sparsity import random_prune, share_value

__version__ = version("keras_parewire")

__all__ = [
    "ChannelAverage",
    "LookaheadPermutation",
    "PARewired",
    "RewireReport",
    "StrengthStabilized",
    "animate_rewiring",
    "plot_connections",
    "plot_strengths",
    "random_prune",
    "register_axes",
    "reinitialize",
    "rewire",
    "rewire_model",
    "share_value",
    "strength_report",
    "strength_variance",
    "strengths",
    "strip",
]
