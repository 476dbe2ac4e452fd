"""Pictures of kernels and their strengths, drawn with Matplotlib."""

from keras_parewire.visualization.connections import (
    animate_rewiring,
    plot_connections,
)
from keras_parewire.visualization.strengths import plot_strengths

__all__ = ["animate_rewiring", "plot_connections", "plot_strengths"]
