"""Pools: the sorted initial weights of each neuron, and their file.

Values are handled as integers that sort like the floats and keep every bit: a
comparison of floats does not distinguish `-0.0` from `0.0`, and NumPy may mix
the two when it sorts them.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_parewire.rewiring.matrix_view import MatrixView
from keras_parewire.rewiring.sorting import float_keys, keyed_floats
from keras_parewire.rewiring.values import known_values


class PooledWeight(NamedTuple):
    """A weight whose values are re-ordered neuron by neuron.

    Attributes:
        variable: The weight, a `keras.Variable`.
        view: Which axes are a neuron's inputs; None for a bias, which is
            re-ordered as one vector.
    """

    variable: Any
    view: MatrixView | None

    def pool(self) -> np.ndarray:
        """Returns each neuron's sorted keys, shape `(neurons, inputs)`."""
        return np.sort(self._keys(self._values()), axis=1)

    def permuted(self, pool: np.ndarray) -> np.ndarray:
        """Returns the pool's values in the order of the current weights.

        Equal weights keep their order.

        Args:
            pool: Array as `pool()` returns it.

        Returns:
            Array of the weight's shape and dtype.
        """
        values = self._values()
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
        return bool(np.isfinite(self._values()).all())

    def _values(self) -> np.ndarray:
        values: np.ndarray = known_values(self.variable)
        return values

    def _keys(self, values: np.ndarray) -> np.ndarray:
        """Returns a copy of the values as sortable integers, row by neuron."""
        rows = values.reshape(1, -1)
        if self.view is not None:
            stack = self.view.to_stack(values, np).swapaxes(1, 2)
            rows = stack.reshape(-1, stack.shape[-1])
        return float_keys(np.ascontiguousarray(rows))


def check_pools_path(path: str | os.PathLike[str]) -> Path:
    """Returns `path` as a `Path`, which must not be a directory."""
    try:
        checked = Path(path)
    except TypeError as error:
        raise TypeError(
            "`pools_path` must be a string or a path. "
            f"Received: pools_path={path!r}"
        ) from error
    if checked.is_dir():
        raise ValueError(
            "`pools_path` must be a file, not a directory. "
            f"Received: pools_path={str(path)!r}"
        )
    return checked


def first_epoch_path(path: Path) -> Path:
    """Returns where pools are while the first epoch of their training runs."""
    return path.with_name(f"{path.name}.first_epoch")


def write_pools(path: Path, pools: Sequence[np.ndarray]) -> None:
    """Writes pools to an `.npz` file, which appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, *pools)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_pools(path: Path, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Reads what `write_pools` wrote.

    Args:
        path: The file.
        like: Arrays of the shapes and dtypes that the pools must have.
    """
    try:
        with (
            path.open("rb") as file,
            np.load(file, allow_pickle=False) as archive,
        ):
            pools = [archive[f"arr_{i}"] for i in range(len(archive.files))]
        found = [(pool.shape, pool.dtype) for pool in pools]
    except OSError:
        raise
    except Exception as error:  # A damaged archive may raise almost anything.
        raise ValueError(
            "`pools_path` must be a file that a LookaheadPermutation has "
            "written, and this one is damaged or something else. Delete it to "
            f"train from new weights. Received: pools_path={str(path)!r}"
        ) from error
    if found != [(array.shape, array.dtype) for array in like]:
        raise ValueError(
            "The pools in `pools_path` must be those of the weights to "
            "re-order, but their number, shapes or dtypes differ. Build the "
            "model as in the first run, with the same `layers` and "
            "`include_bias`, or delete the file to train from new weights. "
            f"Received: {len(pools)} pools in pools_path={str(path)!r} for "
            f"{len(like)} weights"
        )
    return pools
