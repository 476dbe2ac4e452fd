"""One process tests one backend.

It is the one that `KERAS_BACKEND` names or, without that variable, the first
one installed, so that plain `pytest` works wherever the package does.
"""

import importlib.util
import os
import re
import shutil
import tempfile
from pathlib import Path

# Subprocesses inherit what is set here. Keras' own default is TensorFlow,
# installed or not.
if "KERAS_BACKEND" not in os.environ:
    for backend in ("tensorflow", "jax", "torch"):
        if importlib.util.find_spec(backend):
            os.environ["KERAS_BACKEND"] = backend
            break

# Eight devices on one CPU, for JAX to shard over; read when it is imported.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The tests' kernels are too small for threads, which fight where suites run
# side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# JAX compiles the same model once, not once for each test.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jax-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# Small networks train for a few steps, which takes less time than to optimize
# their programs.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import keras
import matplotlib
import numpy as np
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Two devices on one CPU, for a strategy to mirror over.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )

# The folders whose tests are about what a compiler may not change.
OPTIMIZED = {"distribution", "initializers", "rewiring"}

matplotlib.use("Agg")
keras.config.disable_traceback_filtering()


def pytest_report_header():
    return f"keras {keras.__version__} on {keras.backend.backend()}"


def pytest_make_parametrize_id(config, val, argname):
    return f"{argname}={val}" if isinstance(val, int | float | str) else None


@pytest.hookimpl(tryfirst=True)  # Before tests are selected by their marks.
def pytest_collection_modifyitems(items):
    page = Path(__file__).parents[1] / "docs" / "undocumented_keras.md"
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    for item in items:
        if item.originalname in named:
            item.add_marker("undocumented")
        marks = {mark.name for mark in item.iter_markers()}
        if {"any_backend", "backend"} <= marks:
            # The one that runs it might not be one of those that can.
            raise pytest.UsageError(f"{item.nodeid}: one mark at most")


def pytest_unconfigure():
    shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"])


def pytest_runtest_setup(item):
    for mark in item.iter_markers("backend"):
        if keras.backend.backend() not in mark.args:
            pytest.skip(f"runs on {' and '.join(mark.args)} only")
    if keras.backend.backend() == "jax":
        import jax

        optimized = item.path.parent.name in OPTIMIZED
        jax.config.update("jax_disable_most_optimizations", not optimized)


@pytest.fixture(autouse=True)
def random_seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def kernel():
    """A float32 matrix of 48 inputs and 32 outputs."""
    return np.random.default_rng(0).standard_normal((48, 32), np.float32)


@pytest.fixture
def model_parallel():
    """Shards kernels over eight devices, on JAX."""
    devices = keras.distribution.list_devices("cpu")
    assert len(devices) == 8
    mesh = keras.distribution.DeviceMesh((8,), ["model"], devices)
    layout_map = keras.distribution.LayoutMap(mesh)
    layout_map[".*kernel"] = (None, "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout_map)
    )
    yield
    keras.distribution.set_distribution(None)
