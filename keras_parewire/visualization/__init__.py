"""Plots of kernels and of their strengths, drawn with Matplotlib."""

from keras_parewire.visualization.animation import animate_rewiring
from keras_parewire.visualization.connections import plot_connections
from keras_parewire.visualization.variances import (
    plot_strength_variances,
    plot_strengths,
)

__all__ = [
    "animate_rewiring",
    "plot_connections",
    "plot_strength_variances",
    "plot_strengths",
]
