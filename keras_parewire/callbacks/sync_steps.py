"""The steps between syncs: those taken, and the period in an epoch."""

from collections.abc import Callable
from typing import TypeAlias

import keras

from keras_parewire.models.optimizers import steps_of
from keras_parewire.rewiring.validation import check_count

Period: TypeAlias = int | Callable[[int], int]


def optimizer_steps(model: keras.Model) -> int:
    """Returns how many steps the model's optimizer has taken."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ValueError(
            "The model must have an optimizer, whose steps time the syncs: "
            "compile it with one. Received: "
            f"model={model.name!r} with optimizer=None"
        )
    return steps_of(optimizer)


def period_in_epoch(sync_period: Period, epoch: int, model: keras.Model) -> int:
    """Returns the number of optimizer steps between the syncs of an epoch.

    Raises:
        ValueError: If a sync would fall within an execution of several batches,
            during which no callback runs.
    """
    if callable(sync_period):
        sync_period = check_count(sync_period(epoch), "sync_period(epoch)")
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
            f"sync_period={sync_period} in epoch {epoch}, "
            f"gradient_accumulation_steps={accumulation}"
        )
    return sync_period
