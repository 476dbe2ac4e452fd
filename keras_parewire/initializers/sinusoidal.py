"""The deterministic initializer that fills a kernel with sine waves."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_parewire.initializers.sharding import placed
from keras_parewire.rewiring.matrix_view import (
    Axes,
    MatrixView,
    check_axes,
    matrix_view,
)
from keras_parewire.rewiring.validation import check_float
from keras_parewire.rewiring.values import Tensor


# The base class is what `EinsumDense` passes axes to, see `InitializerWrapper`.
@keras.saving.register_keras_serializable(
    package="keras_parewire", name="Sinusoidal"
)
class Sinusoidal(keras.initializers.VarianceScaling):
    """Initializer that gives every output neuron a sine wave of its own.

    With a kernel read as a matrix `M` of shape `(inputs, outputs)`,

    `M[j, i] = a * sin((2 * pi * j / inputs + 2 * pi / outputs) * (i + 1))`

    for `j` from 0 to `inputs - 1` and `i` from 0 to `outputs - 1`. The
    amplitude `a` makes the unbiased variance of all entries
    `2 / (inputs + outputs)`. As published, the inputs of a convolution are
    numbered channel by channel: all positions of the window for the first
    channel, then those for the second. `inputs` counts all of them, and
    `outputs` counts channels only.

    Nothing is random, which has consequences:

    - All kernels of the same shape are equal, whatever the seed: those of an
      attention layer, for example, or of the members of an ensemble.
    - Many kernels with no more inputs than outputs have only about half the
      full rank, because their waves repeat: 127 for 256 and 256.
    - Output strengths (the sums of the weights of each neuron) are 0, except
      for every `inputs`-th output, whose wave is constant. Input strengths are
      not; `PARewired(Sinusoidal())` evens them out.

    Examples:

    >>> # Standalone usage:
    >>> initializer = Sinusoidal()
    >>> values = initializer(shape=(64, 32))

    >>> # Usage in a Keras layer:
    >>> initializer = Sinusoidal()
    >>> layer = keras.layers.Conv2D(32, 3, kernel_initializer=initializer)

    Args:
        input_axes: List of integers, the kernel axes that number the input
            neurons, slowest first. By default kernels are `(*window, in, out)`,
            except that `EinsumDense` and the attention layers pass their own.
        output_axes: List of integers, the kernel axes that number the output
            neurons, slowest first. Given together with `input_axes`.

    Call arguments: as those of `PARewired`; the dtype is Keras' `floatx` by
    default.

    Raises:
        ValueError: As `PARewired`, and when called, if the kernel has at most
            two inputs and two outputs, where the sine is 0 throughout.
        TypeError: If the axes are not lists of integers.

    Reference:

    - [Fernandez-Hernandez et al., 2025](https://arxiv.org/abs/2505.12909)
    """

    def __init__(
        self, *, input_axes: Axes = None, output_axes: Axes = None
    ) -> None:
        inputs, outputs = check_axes(input_axes, output_axes)
        # Given a seed, Keras does not draw one from Python's random state.
        super().__init__(seed=0, input_axes=inputs, output_axes=outputs)
        self.seed = None

    def __call__(
        self,
        shape: Sequence[int],
        dtype: str | None = None,
        layout: Any = None,
    ) -> Tensor:
        view = self._matrix_view(shape)
        dtype = dtype or keras.config.floatx()
        check_float(dtype)
        matrix = _sine_waves(*view.stack_shape[1:])
        if keras.backend.standardize_dtype(dtype) != "float64":
            # Backends round float64 to half precision in different ways.
            matrix = matrix.astype("float32")
        kernel = view.to_kernel(matrix, np)
        return placed(lambda: ops.convert_to_tensor(kernel, dtype), layout)

    def _matrix_view(self, shape: Sequence[int]) -> MatrixView:
        view = matrix_view(shape, self.input_axes, self.output_axes)
        if self.input_axes is not None:
            return view
        *window, channel, output = range(len(view.kernel_shape))
        return matrix_view(shape, [channel, *window], [output])

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # `EinsumDense` adds the seed of the initializer, which is None.
        if config.get("seed", "none given") is None:
            config = {k: v for k, v in config.items() if k != "seed"}
        return cls(**config)

    def get_config(self) -> dict[str, Any]:
        return {"input_axes": self.input_axes, "output_axes": self.output_axes}


def _sine_waves(inputs: int, outputs: int) -> np.ndarray:
    if not inputs * outputs:
        return np.zeros((inputs, outputs))
    if max(inputs, outputs) <= 2:
        raise ValueError(
            "`Sinusoidal` needs a kernel with more than two inputs or more "
            "than two outputs: for any other the sine is 0 throughout. "
            f"Received: inputs={inputs}, outputs={outputs}"
        )
    phases = 2 * np.pi * (np.arange(inputs) / inputs + 1 / outputs)
    waves = np.outer(phases, np.arange(1, outputs + 1))
    np.sin(waves, out=waves)
    waves *= np.sqrt(2 / (inputs + outputs) / waves.var(ddof=1))
    return waves
