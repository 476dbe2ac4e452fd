"""Pools: the sorted initial weights of each neuron, and their file.

Values are handled as integers that sort like the floats and keep every bit: a
comparison of floats does not distinguish `-0.0` from `0.0`, and NumPy may mix
the two when it sorts them.
"""

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_parewire.rewiring.layouts import Layout
from keras_parewire.rewiring.sorting import float_keys, keyed_floats
from keras_parewire.rewiring.validation import known_values


class PooledWeight(NamedTuple):
    """A weight whose values are re-ordered neuron by neuron.

    Attributes:
        variable: The weight, a `keras.Variable`.
        layout: Which axes are a neuron's inputs; None for a bias, which is
            re-ordered as one vector.
    """

    variable: Any
    layout: Layout | None

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
        if self.layout is None:
            return rows.reshape(values.shape)
        groups, inputs, outputs = self.layout.stack_shape
        stack = rows.reshape(groups, outputs, inputs).swapaxes(1, 2)
        kernel: np.ndarray = self.layout.to_kernel(stack, np)
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
        if self.layout is not None:
            stack = self.layout.to_stack(values, np).swapaxes(1, 2)
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


# Whether the training that took the pools has finished an epoch.
_EPOCH_FINISHED = "epoch_finished"


def write_pools(
    path: Path, pools: Sequence[np.ndarray], epoch_finished: bool
) -> None:
    """Writes pools to an `.npz` file, which appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            arrays: dict[str, Any] = {_EPOCH_FINISHED: epoch_finished}
            np.savez(file, *pools, **arrays)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_pools(
    path: Path, like: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], bool]:
    """Reads what `write_pools` wrote.

    It checks that the headers announce arrays of the expected sizes before it
    reads any, so that a damaged file cannot take more memory than the pools
    need.

    Args:
        path: The file.
        like: Arrays of the shapes and dtypes that the pools must have.

    Returns:
        The pools, and whether their training has finished an epoch.
    """
    names = [f"arr_{number}" for number in range(len(like))]
    try:
        with zipfile.ZipFile(path) as archive:
            headers = {
                name.removesuffix(".npy"): _read_header(archive, name)
                for name in archive.namelist()
            }
            if headers.pop(_EPOCH_FINISHED) != ((), np.dtype(bool)):
                raise ValueError("The flag is not a bool.")
            same = headers == {
                name: (array.shape, array.dtype)
                for name, array in zip(names, like, strict=True)
            }
            if same:
                pools = [_read_array(archive, name) for name in names]
                return pools, bool(_read_array(archive, _EPOCH_FINISHED))
    except OSError:
        raise
    except Exception as error:  # A damaged archive may raise almost anything.
        raise ValueError(
            "`pools_path` must be a file that a LookaheadPermutation has "
            "written, and this one is damaged or something else. Delete it to "
            f"train from new weights. Received: pools_path={str(path)!r}"
        ) from error
    raise ValueError(
        "The pools in `pools_path` must be those of the weights to re-order, "
        "but their number, shapes or dtypes differ. Build the model as in the "
        "first run, with the same `layers` and `include_bias`, or delete the "
        f"file to train from new weights. Received: {len(headers)} pools in "
        f"pools_path={str(path)!r} for {len(like)} weights"
    )


def _read_header(
    archive: zipfile.ZipFile, name: str
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(name) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("`np.savez` has not written this array.")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array
