"""Pools: the sorted initial weights of each neuron, and their file.

Values are handled as integers that order like them, bit for bit: comparisons of
floats do not tell `-0.0` from `0.0`, and NumPy's sort of them may mix the two.
"""

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_parewire.rewiring.layouts import Layout
from keras_parewire.rewiring.sorting import float_keys, keyed_floats
from keras_parewire.rewiring.validation import check_finite


class PooledWeight(NamedTuple):
    """A weight whose values are re-ordered neuron by neuron.

    Attributes:
        variable: The weight.
        layout: How it is read as neurons; None for a bias, which is one vector.
    """

    variable: Any
    layout: Layout | None

    def pool(self) -> np.ndarray:
        """The sorted values of each neuron, as keys: `(neurons, weights)`."""
        return np.sort(self._keys(self._values()), axis=1)

    def permuted(self, pool: np.ndarray) -> np.ndarray:
        """The values in `pool`, each neuron's in the order of its weights.

        Equal weights are ordered by their places. `pool` is as `pool()` returns
        it, the result of the weight's shape and dtype.
        """
        values = self._values()
        check_finite(values, self.variable.path)
        keys = self._keys(values)
        order = np.argsort(keys, axis=1, kind="stable")
        np.put_along_axis(keys, order, pool, axis=1)
        rows = keyed_floats(keys, values.dtype)
        if self.layout is None:
            return rows.reshape(values.shape)
        groups, inputs, outputs = self.layout.stack_shape
        stack = rows.reshape(groups, outputs, inputs).swapaxes(1, 2)
        kernel: np.ndarray = self.layout.to_kernel(stack, np)
        return kernel

    def _values(self) -> np.ndarray:
        values: np.ndarray = ops.convert_to_numpy(self.variable)
        return values

    def _keys(self, values: np.ndarray) -> np.ndarray:
        """A copy as integers that order like the values, a row per neuron."""
        rows = values.reshape(1, -1)
        if self.layout is not None:
            stack = self.layout.to_stack(values, np).swapaxes(1, 2)
            rows = stack.reshape(-1, stack.shape[-1])
        return float_keys(np.ascontiguousarray(rows))


def write_pools(path: Path, pools: Sequence[np.ndarray]) -> None:
    """Writes pools to a `.npz` file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.savez(file, *pools)
    os.replace(part, path)


def read_pools(path: Path) -> list[np.ndarray]:
    """Reads what `write_pools` wrote."""
    try:
        with np.load(path) as file:
            return [file[name] for name in file.files]
    except (TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            "`path` must be a file that `save_pools` has written. "
            f"Received: path={str(path)!r}"
        ) from error
