"""Initializers that wrap a base and choose better places for its values."""

from keras_parewire.initializers.channel_average import ChannelAverage
from keras_parewire.initializers.pa_rewired import PARewired
from keras_parewire.initializers.strength_stabilized import StrengthStabilized

__all__ = ["ChannelAverage", "PARewired", "StrengthStabilized"]
