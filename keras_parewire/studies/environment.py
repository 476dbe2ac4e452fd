"""What the numbers of a run depend on besides its arm and its configuration."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import keras
import numpy as np

from keras_parewire.rewiring.threads import usable_cores

# What changes how a backend computes, besides its version.
_FLAGS = (
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)


def find_environment(model: Any) -> dict[str, str]:
    """Returns what a run's numbers depend on besides its configuration."""
    backend = keras.backend.backend()
    return {
        "keras_parewire": version("keras_parewire"),
        "keras": keras.__version__,
        "backend": backend,
        "backend_version": str(sys.modules[backend].__version__),
        "numpy": np.__version__,
        "dtype": str(model.dtype_policy.name),
        "device": find_device(model.weights[0].value),
    }


def find_device(tensor: Any) -> str:
    """Returns the kind of device that holds a tensor, and its name."""
    # Each backend has its own class of device, and only the names agree.
    name = str(getattr(tensor, "device", "")).lower()
    if "cuda" in name or "gpu" in name:
        return _gpu_name()
    other = next((kind for kind in ("tpu", "mps", "xpu") if kind in name), None)
    return other or f"cpu {platform.machine()}"


def count_threads() -> int:
    """Returns how many threads the backend uses for one operation."""
    backend = keras.backend.backend()
    module: Any = sys.modules[backend]
    if backend == "torch":
        return int(module.get_num_threads())
    cores = usable_cores()
    if backend == "tensorflow":
        # TensorFlow does not tell what it takes from its own variable.
        threading = module.config.threading
        given = threading.get_intra_op_parallelism_threads()
        variable = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
        return int(given or (variable.isdecimal() and int(variable)) or cores)
    return cores


def find_flags() -> str:
    """Returns the environment variables that change how a backend computes."""
    given = [name for name in _FLAGS if name in os.environ]
    return ", ".join(f"{name}={os.environ[name]}" for name in given)


def _gpu_name() -> str:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "gpu"
    names = sorted(set(process.stdout.split("\n")) - {""})
    return f"gpu {', '.join(names)}"
