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
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from keras_parewire.studies.runner import Outcome, Runner

# How many workers may die of one seed.
TRIES = 3
# How many seconds a cluster may take to accept a connection, then a driver.
ANSWER, WAIT = 10, 120

Task = tuple[int, list[str]]
Resources = Mapping[str, float]


class Worker:
    """An actor that holds the model."""

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self._parts = parts
        self._runner: Runner | None = None

    def run(
        self, arm: str, seed: int
    ) -> tuple[dict[str, str], str, Outcome, list[str]]:
        """Returns environment, name of the host, outcome and warnings."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            if self._runner is None:
                self._runner = Runner(*self._parts)
            outcome = self._runner.run(arm, seed)
        texts = [str(w.message) for w in caught if w.category is UserWarning]
        return self._runner.environment, socket.gethostname(), outcome, texts


def run(
    parts: tuple[Any, ...],
    tasks: Iterable[Task],
    *,
    begin: Callable[[Mapping[str, str]], None],
    record: Callable[[str, int, Outcome], None],
    address: str | None = None,
    resources: Resources | None = None,
) -> None:
    """Spreads runs over a cluster; see `Study.run` for the last two arguments.

    `parts` are the arguments of `Runner`, `tasks` each seed with its missing
    arms, asked for when a worker is free. `begin` is called with the workers'
    environment and raises if it is another one, `record` with the arm, the seed
    and the outcome of each run.
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
        resources, count = _plan(ray, resources)
        # The data goes once to each node, not to each worker.
        actor, shared = _actor(ray, resources), ray.put(parts)
        make = functools.partial(actor.remote, shared)
        _run_all(ray, make, count, tasks, begin, record)
    finally:
        if started:
            ray.shutdown()


def _run_all(
    ray: Any,
    make: Callable[[], Any],
    count: int,
    tasks: Iterable[Task],
    begin: Callable[[Mapping[str, str]], None],
    record: Callable[[str, int, Outcome], None],
) -> None:
    """Gives tasks to at most `count` workers, all arms of a seed to one."""
    again: list[Task] = []
    queue = iter(tasks)
    actors: list[Any] = []
    free: list[Any] = []
    busy: dict[Any, tuple[Any, int, list[str]]] = {}
    deaths: collections.Counter[int] = collections.Counter()
    known = None
    try:
        while True:
            while len(busy) < count:
                task = again.pop() if again else next(queue, None)
                if task is None:
                    break
                if not free:
                    actors.append(make())
                    free.append(actors[-1])
                actor, (seed, arms) = free.pop(), task
                busy[actor.run.remote(arms[0], seed)] = actor, seed, arms
            # Where a node is lost, another worker may wait for their resources.
            for actor in free:
                ray.kill(actor)
            free.clear()
            if not busy:
                break
            [future], _ = ray.wait(list(busy))
            actor, seed, arms = busy.pop(future)
            try:
                environment, host, outcome, texts = ray.get(future)
            except ray.exceptions.RayTaskError:
                raise  # Of a model that cannot be made, or the like.
            except ray.exceptions.RayError as error:
                # Not left to Ray, which also counts that a worker or a node is
                # not there yet, and so may give up without a try.
                ray.kill(actor)
                deaths[seed] += 1
                if deaths[seed] < TRIES:
                    again.append((seed, arms))
                elif known is None:
                    raise RuntimeError(
                        "Workers must survive making the model and training "
                        f"it. Received: {TRIES} that died of seed={seed}, the "
                        f"last one with {error}"
                    ) from error
                continue
            try:
                if environment != known:
                    begin(environment)
                known = environment
            except ValueError as error:
                raise ValueError(
                    "All workers must be of one kind, that of the rows. "
                    f"Received: a worker on {host} for which {error}"
                ) from error
            for text in texts:
                warnings.warn(text, stacklevel=4)
            record(arms[0], seed, outcome)
            if arms[1:]:
                busy[actor.run.remote(arms[1], seed)] = actor, seed, arms[1:]
            else:
                free.append(actor)
    finally:
        for actor in actors:
            ray.kill(actor)
    given_up = [seed for seed, count in deaths.items() if count == TRIES]
    if given_up:
        raise RuntimeError(
            f"All other seeds are done; {TRIES} workers died of each. "
            f"Received: seeds={given_up}"
        )


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
    return resources, fitting


def _actor(ray: Any, resources: Resources) -> Any:
    # A worker without a GPU of its own would see and use all GPUs.
    hidden = {} if resources.get("num_gpus") else {"CUDA_VISIBLE_DEVICES": ""}
    variables = {"KERAS_BACKEND": keras.backend.backend(), **hidden}
    own = {k: v for k, v in resources.items() if k.startswith("num_")}
    custom = {k: v for k, v in resources.items() if k not in own}
    return ray.remote(Worker).options(
        **own, resources=custom, runtime_env={"env_vars": variables}
    )
