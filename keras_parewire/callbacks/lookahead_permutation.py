"""Lookahead Permutation (LaPerm): training by re-ordering initial weights."""

import math
import warnings
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_parewire.callbacks.pools import PooledWeight
from keras_parewire.models.kernels import (
    Selection,
    survey_model,
    warn_if_unknown,
)
from keras_parewire.models.layer_axes import Skipped
from keras_parewire.models.updates import assign_all, steps_of
from keras_parewire.rewiring.validation import check_count

Logs: TypeAlias = dict[str, Any] | None


class LookaheadPermutation(keras.callbacks.Callback):
    """Callback that trains a model by re-ordering its initial weights.

    Any optimizer trains the model as usual. After every `sync_period` steps,
    the callback replaces the incoming weights of each neuron with the neuron's
    initial ones, in the order that the optimizer has found: the smallest
    initial weight takes the place of the smallest current one, and so on (a
    *sync*). The model learns where to put its initial values.

    It re-orders the kernels that `rewire_model` would rewire, along the same
    axes. All other weights train as usual, and syncs do not touch the
    optimizer's state.

    If a sync falls on the last step of an epoch, validation sees the synced
    weights. In the list of callbacks, put those that save the model after this
    one, and put an `EarlyStopping` that restores weights before it. Weights
    that become NaN or infinite cannot be ordered: training then stops with a
    warning and leaves them as they are.

    **Resuming.** The callback takes the initial weights in the first epoch that
    it sees, and keeps them for later calls of `fit` with the same model. After
    a sync, the model itself holds them, and only then. So to resume a training
    in a new process, restore the model and its optimizer from a checkpoint made
    at a sync. If every epoch ends with one, a script with a
    `keras.callbacks.BackupAndRestore` behind this callback resumes by itself.

    **Batch normalization.** A sync does not update its moving statistics.
    Before you use a synced model, average them anew over batches of training
    data, called with `training=True`.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("adam", "mse")
    >>> x, y = keras.random.normal((32, 8)), keras.random.normal((32, 4))
    >>> permutation = LookaheadPermutation(sync_period=2)
    >>> history = model.fit(x, y, 8, 5, verbose=0, callbacks=[permutation])
    >>> permutation.is_synced()
    True

    Args:
        sync_period: Positive integer, the number of optimizer steps from one
            sync to the next, counted from the model's first step. The authors
            sync about once an epoch. With gradient accumulation, a step is an
            update of the weights.
        layers: Which layers to re-order; see `rewire_model`.
        include_bias: Boolean, whether to re-order biases too, each as one
            vector. Defaults to False.
        sync_at_end: Boolean, whether to sync when `fit` ends, after its last
            validation, so that the trained model is a re-ordering of the
            initial one whatever the number of steps. Defaults to True.

    Raises:
        ValueError: If an argument is out of range. In `fit`: if the model has
            no kernels or no optimizer, is trained by another one, or is not the
            model of an earlier `fit`; if a training is resumed between two
            syncs, or the weights have been drawn anew; or if
            `steps_per_execution` does not fit `sync_period`. On TensorFlow, the
            model must be built before `fit`.
        TypeError: If an argument is of the wrong type.

    Reference:

    - [Qiu and Suda, 2020](https://arxiv.org/abs/2003.02570)
    """

    def __init__(
        self,
        sync_period: int,
        *,
        layers: Selection = None,
        include_bias: bool = False,
        sync_at_end: bool = True,
    ) -> None:
        super().__init__()
        self.sync_period = check_count(sync_period, "sync_period")
        self.layers = layers
        self.include_bias = include_bias
        self.sync_at_end = sync_at_end
        # The weights to re-order and their pools; empty before the first fit.
        self._weights: list[PooledWeight] = []
        self._pools: list[np.ndarray] = []
        # Whether the current call of `fit` has passed the checks of the pools.
        self._started = False
        # The step of the next sync, and how many executions must pass before
        # it can be reached.
        self._next_sync = 0
        self._executions_left = 0

    def is_synced(self) -> bool:
        """Returns whether all weights are initial ones of their neuron.

        They are before the first step and after each sync. Raises a ValueError
        if the callback has not been trained with.
        """
        if not self._pools:
            raise ValueError(
                "`is_synced` compares weights with the initial ones, which are "
                "taken in the first epoch of `fit`. Received: a "
                "LookaheadPermutation that has not been trained with"
            )
        _ = self.model  # On JAX, this updates the variables during an epoch.
        return all(
            np.array_equal(weight.pool(), pool)
            for weight, pool in zip(self._weights, self._pools, strict=True)
        )

    def on_train_begin(self, logs: Logs = None) -> None:
        _check_executions(self.model, self.sync_period)
        self._started = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        model = self.model
        steps = steps_of(model.optimizer)
        if not self._started:
            # Not in `on_train_begin`: a callback that restores the model may
            # come later in the list.
            self._start(model, steps)
            self._started = True
        self._schedule(model, steps)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        # Reading from the model makes the device wait, and on JAX copies the
        # model's state: do so only when a sync may be due.
        self._executions_left -= 1
        if self._executions_left > 0:
            return
        model = self.model
        steps = self._counted_steps(model)
        if steps >= self._next_sync:
            self._sync(model)
        self._schedule(model, steps)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._counted_steps(self.model)

    def on_train_end(self, logs: Logs = None) -> None:
        if self.sync_at_end and self._started:
            self._sync(self.model)

    def _start(self, model: keras.Model, steps: int) -> None:
        """Takes the pools, or checks that the existing ones fit the model."""
        weights = self._find_weights(model)
        if not self._pools:
            if steps % self.sync_period:
                raise ValueError(
                    "The initial weights must be taken before the first step "
                    "or right after a sync, at a multiple of `sync_period`: "
                    "restore a checkpoint made at a sync, or, to start from "
                    "the present weights, compile the model again. Received: "
                    f"model={model.name!r} after {steps} steps of its "
                    f"optimizer, sync_period={self.sync_period}"
                )
            self._weights = weights
            self._pools = [weight.pool() for weight in weights]
        elif [id(weight.variable) for weight in weights] != [
            id(weight.variable) for weight in self._weights
        ]:
            raise ValueError(
                "A LookaheadPermutation keeps the initial weights of one "
                "model: make a new one for another model. Received: "
                f"model={model.name!r}, whose weights to re-order are not "
                "those of the earlier training"
            )
        elif not steps and not self.is_synced():
            raise ValueError(
                "The optimizer has taken no step, but the weights are not the "
                "initial ones of the earlier training: make a new "
                "LookaheadPermutation to start another one. Received: "
                f"model={model.name!r}"
            )

    def _sync(self, model: keras.Model) -> None:
        for weight in self._weights:
            if not weight.is_finite():
                warnings.warn(
                    "LookaheadPermutation stops the training: weights have "
                    "become NaN or infinite, and cannot be ordered. Received: "
                    f"{weight.variable.path}",
                    stacklevel=2,
                )
                model.stop_training = True
                return
        # Compute all before assigning any, so that an error changes nothing.
        assign_all(
            [
                (weight.variable, weight.permuted(pool))
                for weight, pool in zip(self._weights, self._pools, strict=True)
            ]
        )

    def _schedule(self, model: keras.Model, steps: int) -> None:
        """Sets the next sync of a model that has been trained for `steps`."""
        period = self.sync_period
        self._next_sync = (steps // period + 1) * period
        self._executions_left = math.ceil(
            (self._next_sync - steps) / model.steps_per_execution
        )

    def _counted_steps(self, model: keras.Model) -> int:
        """Returns the optimizer's steps; raises if another one trains."""
        steps = steps_of(model.optimizer)
        if not steps and not self.is_synced():
            raise ValueError(
                "The steps of `model.optimizer` time the syncs, but the "
                "weights have changed and it has taken no step. Compile the "
                "model with the optimizer that trains the weights to re-order, "
                "and use it in `train_step`. Received: "
                f"model={model.name!r}"
            )
        return steps

    def _find_weights(self, model: keras.Model) -> list[PooledWeight]:
        classified = survey_model(model, self.layers).weights
        warn_if_unknown(classified, stacklevel=2)
        pooled = []
        for item in classified:
            is_bias = item.skipped is Skipped.BIAS and item.selected
            if item.view is not None or (self.include_bias and is_bias):
                pooled.append(PooledWeight(item.weight.variable, item.view))
        if not pooled:
            raise ValueError(
                "The model must have kernels to re-order. Received: "
                f"model={model.name!r}, layers={self.layers!r}"
            )
        return pooled


def _check_executions(model: keras.Model, sync_period: int) -> None:
    """Checks that no sync falls within an execution of several batches."""
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            "The model must have an optimizer, whose steps time the syncs: "
            "compile it with one. Received: "
            f"model={model.name!r} with optimizer=None"
        )
    # Mixed precision wraps the optimizer that accumulates.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    accumulation = optimizer.gradient_accumulation_steps or 1
    if sync_period * accumulation % model.steps_per_execution:
        raise ValueError(
            "`steps_per_execution` must divide the number of batches between "
            "two syncs, which is `sync_period` times the optimizer's "
            "`gradient_accumulation_steps`: callbacks only run between "
            "executions. Received: "
            f"steps_per_execution={model.steps_per_execution}, "
            f"sync_period={sync_period}, "
            f"gradient_accumulation_steps={accumulation}"
        )
