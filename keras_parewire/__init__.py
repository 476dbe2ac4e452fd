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

from keras_parewire.callbacks import LookaheadPermutation
from keras_parewire.initializers import (
    Centered,
    ChannelAverage,
    PARewired,
    Sinusoidal,
    StrengthStabilized,
)
from keras_parewire.models import (
    ScaleReport,
    StrengthReport,
    output_scales,
    register_axes,
    reinitialize,
    rescale_model,
    rewire_model,
    strength_report,
    strip_initializers,
)
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
