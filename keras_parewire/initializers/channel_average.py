"""The initializer of ConstNet, whose kernels have no diversity."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.initializers.sharding import placed
from keras_parewire.rewiring.matrix_view import matrix_view
from keras_parewire.rewiring.validation import check_float
from keras_parewire.rewiring.values import Tensor


@keras.saving.register_keras_serializable(
    package="keras_parewire", name="ChannelAverage"
)
class ChannelAverage(keras.initializers.Initializer):
    """Initializer that makes every neuron the mean of its input channels.

    A kernel `(*window, in, out)` is `1 / in` at the center of its window and
    zero elsewhere. All output channels are then alike, and nothing is random:
    the opposite of a diverse start. The center of a window of even size is the
    later of its two middle positions.

    It is meant for `Dense`, `Conv1D` to `Conv3D` and other layers whose kernels
    are `(*window, in, out)`. With `groups`, `in` counts the channels of a
    single group.

    Examples:

    >>> # Standalone usage:
    >>> initializer = ChannelAverage()
    >>> values = initializer(shape=(3, 3, 16, 32))

    >>> # Usage in a Keras layer:
    >>> initializer = ChannelAverage()
    >>> layer = keras.layers.Conv2D(32, 1, kernel_initializer=initializer)

    Call arguments:
        shape: Shape of the kernel, of rank 2 or more.
        dtype: Optional floating-point dtype; by default Keras' `floatx`.
        layout: Optional sharding, which Keras passes on JAX.

    Raises:
        ValueError: When called, if the rank is below 2 or the dtype is not
            floating point.

    Reference:

    - [Blumenfeld et al., 2020](https://arxiv.org/abs/2007.01038)
    """

    def __call__(
        self,
        shape: Sequence[int],
        dtype: str | None = None,
        layout: Any = None,
    ) -> Tensor:
        matrix_view(shape)  # Raises if this is not the shape of a kernel.
        *window, inputs, _ = shape
        dtype = dtype or keras.config.floatx()
        check_float(dtype)
        kernel = np.zeros(shape, "float64")
        if kernel.size:
            kernel[tuple(size // 2 for size in window)] = 1 / inputs
        return placed(lambda: ops.convert_to_tensor(kernel, dtype), layout)
