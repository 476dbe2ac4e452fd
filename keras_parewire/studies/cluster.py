"""Runs on a Ray cluster; no other module uses Ray.

Only the driver writes rows. It never asks its own backend for a device: the
workers report their hardware.
"""

import collections
import functools
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras

from keras_parewire.studies.runner import Outcome, Runner

# How many workers may die of one seed, or of building the model.
TRIES = 3
# How many seconds a cluster may take to accept a connection, then a driver.
ANSWER, WAIT = 10, 120

Task = tuple[int, list[str]]
Resources = Mapping[str, float]


class Worker:
    """An actor that holds the built model."""

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self._parts = parts

    def start(self) -> tuple[dict[str, str], str]:
        """Builds the model; returns the environment and the host's name."""
        self._runner = Runner(*self._parts)
        return self._runner.environment, socket.gethostname()

    def run(self, arm: str, seed: int) -> Outcome:
        return self._runner.run(arm, seed)


def run(
    parts: tuple[Any, ...],
    tasks: Iterable[Task],
    *,
    most: int,
    begin: Callable[[Mapping[str, str]], None],
    record: Callable[[str, int, Outcome], None],
    address: str | None = None,
    resources: Resources | None = None,
) -> None:
    """Spreads runs over a cluster; see `Study.run` for the last two arguments.

    `parts` are the arguments of `Runner`, `tasks` each seed with its missing
    arms, at most `most`, taken one by one. `begin` gets each worker's
    environment and raises if it differs, `record` arm, seed and outcome.
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
    try:
        resources, count = _plan(ray, resources, most)
        # The data goes once to each node, not to each worker.
        actor, shared = _actor(ray, resources), ray.put(parts)
        make = functools.partial(actor.remote, shared)
        _Pool(ray, make, begin, record).run(iter(tasks), count)
    finally:
        if started:
            ray.shutdown()


class _Pool:
    """The working actors; `_pending` maps their futures to their tasks."""

    def __init__(self, ray: Any, make: Any, begin: Any, record: Any) -> None:
        self._ray, self._make, self._begin = ray, make, begin
        self._record = record
        self._pending: dict[Any, tuple[Any, Task | None]] = {}
        self._died: collections.Counter[int | None] = collections.Counter()

    def run(self, tasks: Iterator[Task], count: int) -> None:
        again, lost, more = list[Task](), list[Task](), True
        try:
            while more or again or any(x for _, x in self._pending.values()):
                while len(self._pending) < (count if more else len(again)):
                    self._submit(self._make(), None)
                [future], _ = self._ray.wait(list(self._pending))
                actor, task = self._pending.pop(future)
                try:
                    result = self._ray.get(future)
                except self._ray.exceptions.RayActorError as error:
                    self._ray.kill(actor)
                    kept = again if self._may_try_again(task, error) else lost
                    kept += [task] if task else []
                    continue
                if task:
                    self._record(task[1].pop(0), task[0], result)
                else:
                    self._check(*result)
                if task is None or not task[1]:
                    task = again.pop(0) if again else next(tasks, None)
                    more = more and task is not None
                if task:  # A seed's arms share one worker.
                    self._submit(actor, task)
                else:
                    self._ray.kill(actor)
        finally:
            for actor, _ in self._pending.values():
                self._ray.kill(actor)
        if lost:
            seeds = [seed for seed, _ in lost]
            text = f"{TRIES} workers died of each. Received: seeds={seeds}"
            raise RuntimeError(f"All other seeds are done; {text}")

    def _submit(self, actor: Any, task: Task | None) -> None:
        call = actor.run.remote(task[1][0], task[0]) if task else None
        self._pending[call or actor.start.remote()] = actor, task

    def _may_try_again(self, task: Task | None, error: Exception) -> bool:
        seed = task[0] if task else None
        self._died[seed] += 1
        if seed is None and self._died[seed] == TRIES:
            raise RuntimeError(
                "Workers must survive building the model. "
                f"Received: {TRIES} that died, the last one with {error}"
            ) from error
        return self._died[seed] < TRIES

    def _check(self, environment: Mapping[str, str], host: str) -> None:
        self._died[None] = 0
        try:
            self._begin(environment)
        except ValueError as error:
            raise ValueError(
                "All workers must be of one kind, that of the rows. Received: "
                f"a worker on {host} for which {error}"
            ) from error


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


def _plan(
    ray: Any, resources: Resources | None, seeds: int
) -> tuple[Resources, int]:
    """Returns what an actor takes, and how many actors fit the cluster."""
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
    return resources, min(seeds, fitting)


def _actor(ray: Any, resources: Resources) -> Any:
    # A worker without a GPU of its own would see and use all GPUs.
    hidden = {} if resources.get("num_gpus") else {"CUDA_VISIBLE_DEVICES": ""}
    variables = {"KERAS_BACKEND": keras.backend.backend(), **hidden}
    own = {k: v for k, v in resources.items() if k.startswith("num_")}
    custom = {k: v for k, v in resources.items() if k not in own}
    return ray.remote(Worker).options(
        **own, resources=custom, runtime_env={"env_vars": variables}
    )
