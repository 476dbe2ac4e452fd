"""Paired studies: does another initialization help a model, and how surely?"""

from keras_parewire.studies.study import Study

__all__ = ["Study"]
