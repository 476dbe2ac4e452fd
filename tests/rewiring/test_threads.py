import os
import re
import threading

import numpy as np
import pytest
from helpers import as_array

from keras_parewire import rewire
from keras_parewire.rewiring.threads import (
    THREADS_VARIABLE,
    thread_count,
    usable_cores,
)

pytestmark = pytest.mark.any_backend


def test_as_many_threads_as_usable_cores(monkeypatch):
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    assert thread_count() == usable_cores()
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda process: {3, 5}, raising=False
    )
    assert usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_the_variable_sets_the_number_of_threads(monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    assert thread_count() == 3


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_the_variable_must_be_a_positive_integer(monkeypatch, kernel, text):
    monkeypatch.setenv(THREADS_VARIABLE, text)
    message = f"positive integer. Received: {THREADS_VARIABLE}={text!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        rewire(kernel)


def test_no_thread_is_started_if_one_is_allowed(monkeypatch):
    kernel = np.random.default_rng(0).normal(size=(1024, 1100))
    start, started = threading.Thread.start, []

    def recording(thread):
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", recording)
    results = []
    for count in "12":
        monkeypatch.setenv(THREADS_VARIABLE, count)
        results.append(as_array(rewire(kernel, seed=0)))
        assert bool(started) == (count == "2")
    np.testing.assert_array_equal(*results)
