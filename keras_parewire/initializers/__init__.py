"""Initializers: those that wrap a base, and deterministic ones."""

from keras_parewire.initializers.centered import Centered
from keras_parewire.initializers.channel_average import ChannelAverage
from keras_parewire.initializers.pa_rewired import PARewired
from keras_parewire.initializers.sinusoidal import Sinusoidal
from keras_parewire.initializers.strength_stabilized import StrengthStabilized

__all__ = [
    "Centered",
    "ChannelAverage",
    "PARewired",
    "Sinusoidal",
    "StrengthStabilized",
]
