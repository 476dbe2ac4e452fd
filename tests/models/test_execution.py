import itertools
import threading

import keras
import numpy as np
import pytest
from keras import layers

from keras_parewire import rewire_model
from keras_parewire.models import execution
from keras_parewire.models.hosts import Hosts
from keras_parewire.models.kernel_rewiring import KernelRewiring
from keras_parewire.rewiring.threads import THREADS_VARIABLE


def make_model():
    keras.utils.set_random_seed(0)
    units = (24, 7, 40, 16)
    dense = [layers.Dense(count, name=f"dense{count}") for count in units]
    return keras.Sequential([keras.Input((32,)), *dense], name="model")


def draw_from_numpy(shape, dtype=None):
    return keras.ops.convert_to_tensor(np.random.normal(size=shape), dtype)


@pytest.mark.parametrize("base", [None, "he_normal", draw_from_numpy])
def test_threads_change_nothing(monkeypatch, base):
    # The first and the last kernel are rewired at once.
    monkeypatch.setattr(execution, "_LEAST_BLOCK", 4 * 16)
    results = []
    for count in (1, 2, 3, 8):
        monkeypatch.setenv(THREADS_VARIABLE, str(count))
        model = make_model()
        np.random.seed(0)
        report = rewire_model(model, base, block_size=4, seed=1, verbose=0)
        results.append((model.get_weights(), report))
    for weights, report in results[1:]:
        assert report == results[0][1]
        for one, other in zip(weights, results[0][0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_no_more_threads_than_allowed(monkeypatch):
    monkeypatch.setattr(execution, "_LEAST_BLOCK", 1)
    names, shares = set(), []
    compute = KernelRewiring.compute

    def watched(self, kernel, current, drawn, threads):
        names.add(threading.current_thread().name)
        shares.append(threads)
        return compute(self, kernel, current, drawn, threads)

    monkeypatch.setattr(KernelRewiring, "compute", watched)
    for allowed in (1, 2, 3, 9):
        names.clear()
        shares.clear()
        monkeypatch.setenv(THREADS_VARIABLE, str(allowed))
        rewire_model(make_model(), seed=0, verbose=0)
        assert len(shares) == 4
        # A kernel's own threads count as well.
        assert len(names) * max(shares) <= allowed


def test_narrow_kernels_are_rewired_one_by_one(monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "2")

    def executor(*args):
        raise AssertionError("a thread is started")

    monkeypatch.setattr(execution, "ThreadPoolExecutor", executor)
    rewire_model(make_model(), seed=0, verbose=0)


@pytest.mark.parametrize("count", ["1", "3"])
def test_an_error_in_a_thread_changes_nothing(monkeypatch, count):
    monkeypatch.setattr(execution, "_LEAST_BLOCK", 1)
    monkeypatch.setenv(THREADS_VARIABLE, count)
    calls = itertools.count()
    compute = KernelRewiring.compute

    def failing(self, *args):
        if next(calls) == 2:
            raise MemoryError("too large")
        return compute(self, *args)

    monkeypatch.setattr(KernelRewiring, "compute", failing)
    model = make_model()
    weights = [weight.copy() for weight in model.get_weights()]
    with pytest.raises(MemoryError, match="too large"):
        rewire_model(model, seed=0, verbose=0)
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_homes_share_the_work():
    hosts = Hosts()
    assert hosts.homes([3, 1, 2]) == [0, 0, 0]
    hosts.count = 2
    assert hosts.homes([1, 8, 3, 3, 2]) == [0, 0, 1, 1, 1]
    assert hosts.homes([]) == []
