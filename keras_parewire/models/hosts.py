"""Division of a model's kernels among the processes of a job, as on JAX.

Each kernel has one home, the process that rewires it and then sends the result
to the others. Keras has no function that sends values, but `Model.predict`
under `DataParallel` takes an input from each process. A layer that sums these
inputs over all devices thus returns, to every process, the bits of the only one
whose input is not zero.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

# How many 32-bit integers are sent at a time, for small arrays and large ones.
_PIECES = 2**14, 2**20


class _Sum(keras.layers.Layer):
    """Sums a matrix that has one row on each device."""

    def call(self, rows: Any) -> Any:
        return ops.sum(rows, axis=0)


class Hosts:
    """The processes of the current distribution.

    All of them must call the same methods in the same order.

    Attributes:
        count: How many processes there are.
        own: The number of this process, from 0 on.
    """

    def __init__(self) -> None:
        self.count, self.own = 1, 0
        if keras.distribution.distribution() is None:
            return
        self._devices = keras.distribution.list_devices()
        self._parallel = keras.distribution.DataParallel(
            devices=self._devices, auto_shard_dataset=False
        )
        self.count = self._parallel.num_processes
        self.own = self._parallel.data_shard_id
        if len(self._devices) % self.count:
            raise ValueError(
                "Each process must have the same number of devices. Received: "
                f"{len(self._devices)} devices for {self.count} processes"
            )
        self._models: dict[int, keras.Model] = {}

    def homes(self, sizes: Sequence[int]) -> list[int]:
        """Assigns kernels, the largest first, to the process with least work.

        Args:
            sizes: The number of weights of each kernel.

        Returns:
            The number of the process that is each kernel's home.
        """
        loads = [0] * self.count
        homes = [0] * len(sizes)
        for kernel in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
            homes[kernel] = loads.index(min(loads))
            loads[homes[kernel]] += sizes[kernel]
        return homes

    def share(
        self, values: np.ndarray | None, shape: Sequence[int], dtype: Any
    ) -> np.ndarray:
        """Gives every process the values that one of them has.

        Args:
            values: An array, or None for zeros. An element may differ from zero
                in a single process.
            shape: The array's shape.
            dtype: The array's dtype.
        """
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        words = -(-size // 4)
        if self.count == 1 or not words:
            return np.zeros(shape, dtype) if values is None else values
        piece = _PIECES[words > _PIECES[0]]
        data = None if values is None else _as_words(values, words)
        with self._parallel.scope():
            received = self._model(piece).predict(
                self._batches(data, words, piece),
                steps=-(-words // piece),
                verbose=0,
            )
        raw = np.ascontiguousarray(received).reshape(-1).view(np.uint8)
        shared: np.ndarray = raw[:size].view(dtype).reshape(shape)
        return shared

    def check_all(self, error: BaseException | None) -> None:
        """Raises in every process if one of them has failed."""
        failed = np.zeros(self.count, np.int32)
        failed[self.own] = error is not None
        failed = self.share(failed, failed.shape, failed.dtype)
        if error is not None:
            raise error
        if failed.any():
            raise RuntimeError(
                "All processes must succeed in rewiring their kernels; nothing "
                "has changed. Received: an error, reported there, in process "
                f"{int(failed.argmax())} of {self.count}"
            )

    def _batches(
        self, data: np.ndarray | None, words: int, piece: int
    ) -> Iterator[tuple[np.ndarray]]:
        # A row for each device of this process; one of them holds the data.
        rows = len(self._devices) // self.count
        for start in range(0, words, piece):
            batch = np.zeros((rows, piece), np.int32)
            if data is not None:
                part = data[start : start + piece]
                batch[0, : len(part)] = part
            yield (batch,)

    def _model(self, piece: int) -> keras.Model:
        if piece not in self._models:
            # Names of their own, or Keras would count these layers in the
            # automatic names of the user's.
            inputs = keras.Input(
                (piece,), len(self._devices), "int32", name="rows"
            )
            outputs = _Sum(name="sum", dtype="int32")(inputs)
            self._models[piece] = keras.Model(inputs, outputs, name="share")
        return self._models[piece]


def _as_words(values: np.ndarray, words: int) -> np.ndarray:
    """Returns the bits of an array as 32-bit integers."""
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    padded = np.zeros(4 * words, np.uint8)
    padded[: len(raw)] = raw
    return padded.view(np.int32)
