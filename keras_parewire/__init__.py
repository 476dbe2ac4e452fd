"""Initializers for Keras 3 that even out the strengths of neurons.

See https://arxiv.org/abs/2207.08148 for the method.
"""

from importlib.metadata import version

import keras

# pip normally ensures this. On an older Keras, the imports below would fail
# without saying why.
if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15):
    raise ImportError(
        "keras_parewire requires Keras 3.15 or later. "
        f"Received: Keras {keras.__version__}"
    )

from keras_parewire.callbacks.lookahead_permutation import LookaheadPermutation
from keras_parewire.initializers.centered import Centered
from keras_parewire.initializers.channel_average import ChannelAverage
from keras_parewire.initializers.pa_rewired import PARewired
from keras_parewire.initializers.sinusoidal import Sinusoidal
from keras_parewire.initializers.strength_stabilized import StrengthStabilized
from keras_parewire.models.kernel_axes import register_axes
from keras_parewire.models.model_rewiring import rewire_model
from keras_parewire.models.output_scales import output_scales, rescale_model
from keras_parewire.models.reinitialization import reinitialize
from keras_parewire.models.scale_table import ScaleReport
from keras_parewire.models.strength_table import StrengthReport, strength_report
from keras_parewire.models.strip import strip_initializers
from keras_parewire.rewiring.rewire import rewire
from keras_parewire.rewiring.strengths import strength_variance, strengths
from keras_parewire.visualization import (
    plot_strength_variances,
    plot_strengths,
)

__version__ = version("keras_parewire")

__all__ = [
    "Centered",
    "ChannelAverage",
    "LookaheadPermutation",
    "PARewired",
    "ScaleReport",
    "Sinusoidal",
    "StrengthReport",
    "StrengthStabilized",
    "output_scales",
    "plot_strength_variances",
    "plot_strengths",
    "register_axes",
    "reinitialize",
    "rescale_model",
    "rewire",
    "rewire_model",
    "strength_report",
    "strength_variance",
    "strengths",
    "strip_initializers",
]
