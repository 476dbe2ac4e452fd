"""Pools: the sorted initial weights of each neuron.

Values are handled as integers that sort like the floats and keep every bit: a
comparison of floats does not distinguish `-0.0` from `0.0`, and NumPy may mix
the two when it sorts them.
"""

from typing import Any, NamedTuple

import numpy as np

from keras_parewire.rewiring.matrix_view import MatrixView
from keras_parewire.rewiring.sorting import float_keys, keyed_floats
from keras_parewire.rewiring.values import known_values


class PooledWeight(NamedTuple):
    """A weight whose values are re-ordered neuron by neuron."""

    variable: Any  # A `keras.Variable`.
    view: MatrixView | None  # None for a bias, re-ordered as one vector.

    def pool(self) -> np.ndarray:
        """Returns each neuron's sorted keys, shape `(neurons, inputs)`."""
        return np.sort(self._keys(known_values(self.variable)), axis=1)

    def permuted(self, pool: np.ndarray) -> np.ndarray:
        """Returns a pool's values in the order of the current weights.

        They have the weight's shape and dtype. Equal weights keep their order.
        """
        values = known_values(self.variable)
        keys = self._keys(values)
        order = np.argsort(keys, axis=1, kind="stable")
        np.put_along_axis(keys, order, pool, axis=1)
        rows = keyed_floats(keys, values.dtype)
        if self.view is None:
            return rows.reshape(values.shape)
        groups, inputs, outputs = self.view.stack_shape
        stack = rows.reshape(groups, outputs, inputs).swapaxes(1, 2)
        kernel: np.ndarray = self.view.to_kernel(stack, np)
        return kernel

    def is_finite(self) -> bool:
        """Returns whether all values are finite."""
        return bool(np.isfinite(known_values(self.variable)).all())

    def _keys(self, values: np.ndarray) -> np.ndarray:
        """Returns a copy of the values as sortable integers, row by neuron."""
        rows = values.reshape(1, -1)
        if self.view is not None:
            stack = self.view.to_stack(values, np).swapaxes(1, 2)
            rows = stack.reshape(-1, stack.shape[-1])
        return float_keys(np.ascontiguousarray(rows))
