"""Helpers that several tests share."""

import contextlib
import os
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from keras import ops

from keras_parewire.rewiring import host_engine, traced_engine

# Of a nightly build, that of the version to come.
KERAS_VERSION = tuple(map(int, keras.__version__.split(".")[:2]))

as_array = ops.convert_to_numpy


def child_environment(*paths, **variables):
    """Returns the environment of a process that also imports from `paths`.

    Keras imports TensorFlow wherever it is installed, which takes small scripts
    of other backends longer than their work. So these do not find it.
    """
    variables = {**os.environ, **variables}
    paths = [*paths, variables.get("PYTHONPATH")]
    if variables["KERAS_BACKEND"] != "tensorflow":
        paths = [str(Path(__file__).with_name("without_tensorflow")), *paths]
    return {**variables, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def bits(kernel):
    """Returns the bits of a kernel's values: `-0.0` and `0.0` differ."""
    values = np.ascontiguousarray(as_array(kernel))
    return values.view(f"u{values.itemsize}")


def assert_same(one, other):
    """Asserts the same values in the same places, bit for bit."""
    np.testing.assert_array_equal(bits(one), bits(other))


def assert_permutation(one, other):
    """Asserts the same values in any places, bit for bit."""
    np.testing.assert_array_equal(
        np.sort(bits(one), axis=None), np.sort(bits(other), axis=None)
    )


@contextlib.contextmanager
def recorded_engines():
    """Yields a list of the engines called: "host_engine" or "traced_engine"."""
    calls = []

    def recording(module):
        def rewire_matrix(*args, **kwargs):
            calls.append(module.__name__.split(".")[-1])
            return original(*args, **kwargs)

        original = module.rewire_matrix
        return mock.patch.object(module, "rewire_matrix", rewire_matrix)

    with recording(host_engine), recording(traced_engine):
        yield calls
