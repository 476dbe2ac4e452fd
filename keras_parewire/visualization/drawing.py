"""What all plots share: Matplotlib itself, axes and the values to draw."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_parewire.rewiring.matrix_view import matrix_view
from keras_parewire.rewiring.values import Tensor, check_finite, real_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes(size: tuple[float, float], columns: int = 1) -> "tuple[Axes, ...]":
    """Creates a figure with one row of axes; `size` is in inches."""
    plt = import_pyplot()
    figure = plt.figure(figsize=size, layout="constrained")
    return tuple(figure.subplots(1, columns, squeeze=False).flat)


def import_pyplot() -> Any:
    """Imports `matplotlib.pyplot`, which the package does not require."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ImportError(
            "Plots need Matplotlib. Install it with "
            "`pip install keras_parewire[plot]`."
        ) from error
    return plt


def check_plot_axes(ax: Any, count: int = 1) -> "tuple[Axes, ...]":
    """Returns `ax` as a tuple of `count` Matplotlib axes."""
    import_pyplot()
    from matplotlib.axes import Axes

    axes = tuple(np.ravel(np.asarray(ax, object)))
    if len(axes) != count or not all(isinstance(one, Axes) for one in axes):
        wanted = (
            "a Matplotlib `Axes`"
            if count == 1
            else f"a sequence of {count} Matplotlib `Axes`"
        )
        raise TypeError(f"`ax` must be {wanted}. Received: ax={ax!r}")
    return axes


def finite_matrix(kernel: Tensor, name: str = "kernel") -> np.ndarray:
    """Reads a kernel `(..., in, out)` as a float64 matrix `(inputs, outputs)`.

    Raises:
        TypeError: If the kernel is not one tensor or array of real numbers.
        ValueError: If its rank is below 2, a weight is NaN or infinite, or the
            kernel is being traced.
    """
    if isinstance(kernel, Sequence) and any(
        len(getattr(part, "shape", ())) > 1 for part in kernel
    ):
        raise TypeError(
            f"`{name}` must be a single tensor or array, not a sequence of "
            f"them. Received: {name}={type(kernel).__name__} of "
            f"{len(kernel)} elements"
        )
    values = real_values(kernel, name)
    check_finite(values, name)
    matrix: np.ndarray = matrix_view(values.shape).to_stack(values, np)[0]
    return matrix.astype(np.float64)
