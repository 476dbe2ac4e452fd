"""Runs on a Ray cluster; no other module uses Ray.

Only the driver writes rows. It never asks its own backend for a device: the
workers report their hardware.
"""

import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import keras

from keras_parewire.studies.runs import Outcome, Parts, Runs, make_runs

# How many workers may die of one seed.
TRIES = 3
# How many seconds a cluster may take to accept a connection, then a driver.
ANSWER, WAIT = 10, 120

Task = tuple[int, list[str]]
Resources = Mapping[str, float]


def make_all(
    parts: Parts,
    tasks: Iterable[Task],
    wants_start: Callable[[], bool],
    address: str | None = None,
    resources: Resources | None = None,
) -> Generator[tuple[int, Runs]]:
    """Spreads seeds over a cluster, and yields each with its outcomes.

    Args:
        parts: `make_model`, `train` and the arms by name.
        tasks: Each seed with its missing arms, asked for when a worker is free.
        wants_start: Says whether a task is to report its start.
        address: As `ray` of `Study.run`.
        resources: As in `Study.run`.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "A study on a cluster needs Ray: `pip install keras_parewire[ray]`."
            f" Received: ray={address or True!r}"
        ) from error
    started = not ray.is_initialized()
    if started:
        _connect(ray, address)
    busy: dict[Any, Task] = {}
    try:
        resources, count = _plan(ray, resources)
        # The data goes once to each node, not to each task.
        task, shared = _remote(ray, resources), ray.put(parts)
        queue = iter(tasks)
        while True:
            while len(busy) < count and (found := next(queue, None)):
                busy[task.remote(shared, *found, wants_start())] = found
            if not busy:
                break
            [future], _ = ray.wait(list(busy))
            seed, arms = busy.pop(future)
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
    return [
        (arm, outcome._replace(exception=_sent(outcome.exception)))
        for arm, outcome in make_runs(parts, seed, arms, with_start)
    ]


def _sent(error: Exception | None) -> Exception | None:
    text = "".join(traceback.format_exception(error)) if error else ""
    return RuntimeError(f"On a worker:\n{text}") if error else None


def _connect(ray: Any, address: str | None) -> None:
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address not in (None, "auto", "local"):
        # Ray itself would try for ever, even where another program answers.
        host, _, port = address.rpartition("://")[2].rpartition(":")
        probe = [sys.executable, "-c", f"import ray; ray.init({address!r})"]
        try:
            socket.create_connection((host, int(port)), ANSWER).close()
            subprocess.run(probe, check=True, capture_output=True, timeout=WAIT)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error).encode()
            raise ConnectionError(
                "`ray` must be the address of a cluster that answers in "
                f"{ANSWER} seconds and takes a driver in {WAIT}. Received: "
                f"ray={address!r}, for {said[-500:].decode('utf-8', 'replace')}"
            ) from error
    ray.init(address=address, log_to_driver=False, logging_level="WARNING")


def _plan(ray: Any, resources: Resources | None) -> tuple[Resources, int]:
    """Returns what a task takes, and how many tasks fit the cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if resources is None:
        gpus = any(node.get("GPU") for node in nodes)
        resources = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    named = {"num_cpus": "CPU", "num_gpus": "GPU"}
    needs = {named.get(k, k): v for k, v in resources.items() if v > 0}
    fitting = sum(
        min(int(node.get(name, 0) // need) for name, need in needs.items())
        for node in nodes
        if needs
    )
    if not fitting:
        raise ValueError(
            "`resources` must fit on a node of the cluster. Received: "
            f"resources={dict(resources)}, with nodes of {nodes}"
        )
    return resources, fitting


def _remote(ray: Any, resources: Resources) -> Any:
    # A worker without a GPU of its own would see and use all GPUs.
    hidden = {} if resources.get("num_gpus") else {"CUDA_VISIBLE_DEVICES": ""}
    variables = {"KERAS_BACKEND": keras.backend.backend(), **hidden}
    own = {k: v for k, v in resources.items() if k.startswith("num_")}
    custom = {k: v for k, v in resources.items() if k not in own}
    return ray.remote(_make_seed).options(
        **own,
        resources=custom,
        max_retries=TRIES - 1,
        runtime_env={"env_vars": variables},
    )
