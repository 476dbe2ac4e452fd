"""Lookahead Permutation (LaPerm): training by re-ordering initial weights."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_parewire.callbacks.pools import PooledWeight, read_pools, write_pools
from keras_parewire.models.weights import (
    Selection,
    assign_all,
    kernel_plan,
    selector,
)
from keras_parewire.rewiring.validation import check_count

Period = int | Callable[[int], int]


class LookaheadPermutation(keras.callbacks.Callback):
    """Callback that keeps the weights a re-ordering of the initial ones.

    An optimizer trains the model as usual. But after every `sync_period` steps,
    the incoming weights of each neuron are replaced by that neuron's initial
    ones, in the order that the optimizer has found: the smallest weight becomes
    the smallest initial one, and so on (a *sync*). What is learned is where the
    values go.

    A neuron and its weights are found by the true axes of its layer, as in
    `rewire_model`. Biases, normalization, embeddings, depthwise kernels and
    layers of unknown classes are trained as usual, and so is the optimizer's
    state. Validation at the end of an epoch sees the weights after the sync of
    the same step. In the list of callbacks, those that save the model belong
    after this one, and an `EarlyStopping` that restores weights before it.

    The initial values (*pools*) are taken when `fit` is first called, and kept
    for later calls with the same model. To resume a training in a new process,
    keep them in a file:

    ```python
    permutation = LookaheadPermutation(1000)
    if os.path.exists("pools.npz"):
        permutation.load_pools("pools.npz")
    else:
        permutation.save_pools("pools.npz")  # Once they are taken.
    backup = keras.callbacks.BackupAndRestore("backup")
    model.fit(x, y, epochs=9, callbacks=[permutation, backup])
    ```

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("adam", "mse")
    >>> x, y = keras.random.normal((32, 8)), keras.random.normal((32, 4))
    >>> permutation = LookaheadPermutation(sync_period=2)
    >>> history = model.fit(x, y, 8, 5, verbose=0, callbacks=[permutation])
    >>> permutation.is_synced
    True

    Args:
        sync_period: Integer, 1 or more: the number of optimizer steps from one
            sync to the next, counted from the model's first step on. Or a
            function that is called with the epoch, from 0 on, and returns it.
            The authors use about an epoch.
        layers: None for all layers, a function of a layer, or a list of layers
            and patterns of names: see `rewire_model`.
        include_bias: Whether to re-order biases too, each as one vector.
            Defaults to False.
        sync_at_end: Whether to sync when `fit` ends, after its last validation,
            so that the trained model is a re-ordering whatever the number of
            steps. Defaults to True.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if the model has
            not been built, has no kernels or is not the one of the pools, its
            `steps_per_execution` does not divide `sync_period`, it has been
            trained and there are no pools, or weights have become NaN or
            infinite.
        TypeError: If an argument is of the wrong type.

    Reference:

    - [Qiu and Suda, 2020](https://arxiv.org/abs/2003.02570)
    """

    def __init__(
        self,
        sync_period: Period,
        *,
        layers: Selection = None,
        include_bias: bool = False,
        sync_at_end: bool = True,
    ) -> None:
        super().__init__()
        if not callable(sync_period):
            sync_period = check_count(sync_period, "sync_period")
        self.sync_period = sync_period
        self.layers = layers
        self.include_bias = include_bias
        self.sync_at_end = sync_at_end
        self._pools: list[np.ndarray] | None = None
        # Whether they are known to be of the training that goes on.
        self._confirmed = False
        self._owner: Any = None
        self._starting = False
        self._weights: list[PooledWeight] = []
        self._save_to: Path | None = None

    @property
    def is_synced(self) -> bool:
        """Whether each neuron's weights are now its initial ones, re-ordered.

        It is so before the first step and after each sync. The weights are
        looked at, which takes about as long as a sync.
        """
        if not self._weights:
            raise ValueError(
                "`is_synced` needs the weights of a model. Received: a "
                "LookaheadPermutation that `fit` has not been called with"
            )
        return all(
            np.array_equal(weight.pool(), pool)
            for weight, pool in self._with_pools()
        )

    def save_pools(self, path: str | os.PathLike[str]) -> None:
        """Writes the pools to a `.npz` file; if not yet taken, once they are.

        The file appears whole or not at all, before the first step.
        """
        self._save_to = Path(path)
        if self._confirmed:
            self._write()

    def load_pools(self, path: str | os.PathLike[str]) -> None:
        """Reads the pools that `save_pools` wrote, to resume the training.

        The model must have been built in the same way; its weights may be
        restored before `fit` or by another callback.
        """
        self._pools = read_pools(Path(path))
        self._confirmed, self._owner = True, None

    def on_train_begin(self, logs: Any = None) -> None:
        model = self.model
        if self._owner is not None and self._owner is not model:
            raise ValueError(
                "A LookaheadPermutation holds the initial weights of one "
                "model: make a new one for another. Received: "
                f"model={model.name!r}, after {self._owner.name!r}"
            )
        self._stride = model.steps_per_execution
        for epoch in range((self.params or {}).get("epochs") or 0):
            self._period_of(epoch)
        self._weights = self._find_weights(model)
        pools = [weight.pool() for weight in self._weights]
        if self._pools is None:
            self._check_untrained(_steps(model))
            self._pools = pools
        kinds = [
            [(pool.shape, pool.dtype) for pool in each]
            for each in (self._pools, pools)
        ]
        if kinds[0] != kinds[1]:
            raise ValueError(
                "The pools must be those of the model's weights. Received: "
                f"{len(kinds[0])} pools of other shapes or dtypes than the "
                f"{len(kinds[1])} weights to re-order in model={model.name!r}"
            )
        self._starting = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        model = self.model
        self._period = self._period_of(epoch)
        self._known = self._at_most = _steps(model)
        if self._starting:
            # No callback's `on_train_begin` comes later: what
            # `BackupAndRestore` had to restore is restored.
            self._check_pools()
            self._starting, self._confirmed, self._owner = False, True, model
            self._write()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # To look at the model's own count of steps, or at anything else in it,
        # stops the device and costs JAX a copy of its state. So that is not
        # done before enough batches have passed for a sync to be due.
        self._at_most += self._stride
        due = (self._known // self._period + 1) * self._period
        if self._at_most < due:
            return
        self._known = self._at_most = _steps(self.model)
        if self._known >= due:
            self._sync()

    def on_train_end(self, logs: Any = None) -> None:
        if self.sync_at_end:
            self._sync()

    def _sync(self) -> None:
        assign_all(
            [
                (weight.variable, weight.permuted(pool))
                for weight, pool in self._with_pools()
            ]
        )

    def _with_pools(self) -> list[tuple[PooledWeight, np.ndarray]]:
        # On JAX the variables have no values during an epoch before a callback
        # asks for its model.
        _ = self.model
        return list(zip(self._weights, self._pools or (), strict=True))

    def _write(self) -> None:
        if self._save_to is not None and self._pools is not None:
            write_pools(self._save_to, self._pools)
            self._save_to = None

    def _find_weights(self, model: Any) -> list[PooledWeight]:
        chosen = selector(model, self.layers)
        found = []
        for weight, layout in kernel_plan(model, self.layers, per_gate=False):
            if not isinstance(layout, str):
                found.append(PooledWeight(weight.variable, layout))
            elif self.include_bias and layout == "bias" and chosen(weight)[0]:
                found.append(PooledWeight(weight.variable, None))
        if not found:
            raise ValueError(
                "The model must have kernels to re-order. Received: "
                f"model={model.name!r}, layers={self.layers!r}"
            )
        return found

    def _period_of(self, epoch: int) -> int:
        period = self.sync_period
        if callable(period):
            period = check_count(period(epoch), "sync_period(epoch)")
        if period % self._stride:
            raise ValueError(
                "`steps_per_execution` must divide `sync_period`, since "
                "callbacks are called only after so many steps. Received: "
                f"steps_per_execution={self._stride}, sync_period={period} "
                f"in epoch {epoch}"
            )
        return period

    def _check_untrained(self, steps: int) -> None:
        if steps:
            raise ValueError(
                "The pools must be taken from the initial weights, before a "
                "model is trained. To resume a training, call `load_pools` "
                "with the file that `save_pools` wrote in the first run. "
                f"Received: model={self.model.name!r} after {steps} steps of "
                "its optimizer"
            )

    def _check_pools(self) -> None:
        """Checks that the pools are of the weights there are."""
        if self.is_synced or (self._confirmed and self._known):
            return
        if not self._confirmed:
            self._pools = None
            self._check_untrained(self._known)
        raise ValueError(
            "The pools must be those of the model's initial weights. Received: "
            f"model={self.model.name!r}, with an optimizer that has made no "
            "step, and other weights. To resume a training, restore the model "
            "with its optimizer; to start one, make a new LookaheadPermutation"
        )


def _steps(model: Any) -> int:
    """How many steps the model's optimizer has made."""
    return int(ops.convert_to_numpy(model.optimizer.iterations))
