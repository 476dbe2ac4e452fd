"""Functions for whole models, which know the axes of every layer's kernels.

The axes of Keras' own layers are in `layer_axes.py`; `kernel_plan.py` decides
which weights of a model are kernels.
"""

from keras_parewire.models.kernel_axes import register_axes
from keras_parewire.models.reinitialization import reinitialize
from keras_parewire.models.report import RewireReport
from keras_parewire.models.rewire import rewire_model, strength_report
from keras_parewire.models.strip import strip_initializers

__all__ = [
    "RewireReport",
    "register_axes",
    "reinitialize",
    "rewire_model",
    "strength_report",
    "strip_initializers",
]
