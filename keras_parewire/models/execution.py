"""Rewiring of many kernels, on the threads and the hosts that there are."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import keras
import numpy as np

from keras_parewire.models.hosts import Hosts
from keras_parewire.models.kernel_rewiring import (
    Kernel,
    KernelRewiring,
    Rewired,
)
from keras_parewire.rewiring.threads import thread_count

# Kernels are rewired at the same time if at least this many weights are sorted
# at a time: with fewer, threads mostly wait for Python's global lock.
_LEAST_BLOCK = 2**12


def rewire_all(
    kernels: Sequence[Kernel],
    rewiring: KernelRewiring,
    advance: Callable[[int], None],
) -> list[Rewired]:
    """Rewires kernels, each in one place.

    If there are several hosts, all must call this function. Each gathers one
    kernel at a time and keeps those that it rewires, and the results are sent
    one at a time, so that the memory for each host falls with their number.

    Args:
        kernels: The kernels.
        rewiring: What is done to them.
        advance: Called with the number of weights when a kernel is done.
    """
    hosts = Hosts()
    homes = hosts.homes([math.prod(kernel.weight.shape) for kernel in kernels])
    own, dtypes = {}, []
    for number, (kernel, home) in enumerate(zip(kernels, homes, strict=True)):
        values = kernel.weight.values()  # All hosts take part in this.
        dtypes.append(values.dtype)
        if home == hosts.own:
            own[number] = values
        del values
    results, error = {}, None
    try:
        for number, result in _on_threads(kernels, own, rewiring):
            results[number] = result
            advance(result.values.size)
    except Exception as caught:
        error = caught
    hosts.check_all(error)
    if hosts.count == 1:
        return [results[number] for number in range(len(kernels))]
    return list(_shared(hosts, kernels, results, dtypes))


def _on_threads(
    kernels: Sequence[Kernel],
    own: dict[int, np.ndarray],
    rewiring: KernelRewiring,
) -> Iterator[tuple[int, Rewired]]:
    """Yields the number of each kernel in `own`, and its result."""
    threads = thread_count()
    at_once = [n for n in own if rewiring.block(kernels[n]) >= _LEAST_BLOCK]
    at_once.sort(key=lambda n: -own[n].size)
    workers = min(threads, len(at_once))
    if workers > 1 and not rewiring.draws_in_order:
        with ThreadPoolExecutor(workers) as pool:
            futures = {}
            try:
                for number in at_once:
                    kernel = kernels[number]
                    future = pool.submit(
                        rewiring.compute,
                        kernel,
                        own.pop(number),
                        rewiring.draw(kernel),
                        threads // workers,
                    )
                    futures[future] = number
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                pool.shutdown(cancel_futures=True)
    for number in list(own):
        kernel, drawn = kernels[number], rewiring.draw(kernels[number])
        yield number, rewiring.compute(kernel, own.pop(number), drawn, threads)


def _shared(
    hosts: Hosts,
    kernels: Sequence[Kernel],
    results: dict[int, Rewired],
    dtypes: Sequence[np.dtype],
) -> Iterator[Rewired]:
    """Yields the result of every kernel, its values in their shards."""
    variances = np.zeros((len(kernels), 3))
    for number, result in results.items():
        variances[number] = result.before, result.start, result.after
    variances = hosts.share(variances, variances.shape, variances.dtype)
    distribution = keras.distribution.distribution()
    for number, kernel in enumerate(kernels):
        own = results.pop(number).values if number in results else None
        shape, variable = kernel.weight.shape, kernel.weight.variable
        values = hosts.share(own, shape, dtypes[number])
        layout = distribution.get_variable_layout(variable)
        placed = keras.distribution.distribute_tensor(values, layout)
        before, start, after = variances[number].tolist()
        yield Rewired(before, start, after, placed)
