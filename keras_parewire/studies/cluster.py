"""Runs on a Ray cluster; no other module uses Ray.

Only the driver writes rows. It never asks its own backend for a device: the
workers report their hardware.
"""

import traceback
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import keras

from keras_parewire.studies.runs import Outcome, Parts, Runs, make_runs

# How many workers may die of one seed.
TRIES = 3


def make_all(
    parts: Parts,
    tasks: Iterable[tuple[int, list[str], bool]],
    options: Mapping[str, Any],
) -> Generator[tuple[int, Runs]]:
    """Yields each seed with its runs; asks for tasks when there is room."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "A study on a cluster needs Ray: `pip install keras_parewire[ray]`."
            " Received: ray=True"
        ) from error
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level="WARNING")
    busy: dict[Any, tuple[int, list[str], bool]] = {}
    try:
        remote, room = _plan(ray, options)
        # The data goes once to each node, not to each task.
        shared, queue = ray.put(parts), iter(tasks)
        while True:
            while len(busy) < room and (task := next(queue, None)):
                busy[remote.remote(shared, *task)] = task
            if not busy:
                break
            [future], _ = ray.wait(list(busy))
            seed, arms, _ = busy.pop(future)
            try:
                yield seed, ray.get(future)
            except ray.exceptions.RayTaskError:
                raise  # Of functions that cannot be sent, or the like.
            except ray.exceptions.RayError as error:
                died = RuntimeError(f"{TRIES} workers died of it: {error}")
                yield seed, [(arm, Outcome.failed(died)) for arm in arms]
    finally:
        for future in busy:
            ray.cancel(future, force=True)
        if started:
            ray.shutdown()


def _make_seed(
    parts: Parts, seed: int, arms: list[str], with_start: bool
) -> Runs:
    """Makes the runs of a task; their exceptions need not be picklable."""
    outcomes = []
    for arm, outcome in make_runs(parts, seed, arms, with_start):
        if outcome.exception is not None:
            lines = traceback.format_exception(outcome.exception)
            sent = RuntimeError(f"On a worker:\n{''.join(lines)}")
            outcome = outcome._replace(exception=sent)
        outcomes.append((arm, outcome))
    return outcomes


def _plan(ray: Any, options: Mapping[str, Any]) -> tuple[Any, int]:
    """Returns the remote function, and how many tasks fit the cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not options:
        with_gpus = any(node.get("GPU") for node in nodes)
        options = {"num_gpus": 1} if with_gpus else {"num_cpus": 1}
    # Ray's own default is one CPU.
    cpus, gpus = options.get("num_cpus", 1), options.get("num_gpus")
    # A worker without a GPU of its own would see and use all GPUs.
    hidden = {} if gpus else {"CUDA_VISIBLE_DEVICES": ""}
    variables = {"KERAS_BACKEND": keras.backend.backend(), **hidden}
    ours = {"max_retries": TRIES - 1, "runtime_env": {"env_vars": variables}}
    remote = ray.remote(_make_seed).options(**{**ours, **options})
    needs = {"CPU": cpus, "GPU": gpus, **options.get("resources", {})}
    needs = {name: need for name, need in needs.items() if need}
    room = sum(
        min(int(node.get(name, 0) // need) for name, need in needs.items())
        for node in nodes
        if needs
    )
    if not room:
        raise ValueError(
            "What `ray` asks for must fit on a node of the cluster. Received: "
            f"ray={dict(options)}, with nodes of {nodes}"
        )
    return remote, room
