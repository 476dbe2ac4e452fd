"""Functions for whole models, which know the axes of every layer's kernels.

The axes of Keras' own layers are in `layer_axes.py`; `kernels.py` decides which
weights of a model are kernels.
"""

from keras_parewire.models.kernel_axes import register_axes
from keras_parewire.models.model_rewiring import rewire_model
from keras_parewire.models.output_scales import output_scales, rescale_model
from keras_parewire.models.reinitialization import reinitialize
from keras_parewire.models.scale_table import ScaleReport
from keras_parewire.models.strength_table import (
    StrengthReport,
    strength_report,
)
from keras_parewire.models.strip import strip_initializers

__all__ = [
    "ScaleReport",
    "StrengthReport",
    "output_scales",
    "register_axes",
    "reinitialize",
    "rescale_model",
    "rewire_model",
    "strength_report",
    "strip_initializers",
]
