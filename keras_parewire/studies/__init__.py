"""Paired studies: does another initialization help, and how certain is it?"""

from keras_parewire.studies.statistics import Comparison, compare
from keras_parewire.studies.study import Study

__all__ = ["Comparison", "Study", "compare"]
