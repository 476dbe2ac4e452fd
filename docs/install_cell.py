# Installs what is missing here: a backend, and this package from the clone that
# holds the notebook or from a wheel beside it (in Colab, upload one that
# `pip wheel . --no-deps` has made).
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path


def find(module):
    """Returns whether a module is installed."""
    return importlib.util.find_spec(module) is not None


packages = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}
needed = [packages[module] for module in packages if not find(module)]
if not (find("keras") and find("keras_parewire")):
    here = Path.cwd()
    clones = [
        folder
        for folder in (here, *here.parents)
        if (folder / "keras_parewire" / "__init__.py").exists()
    ]
    sources = [*sorted(here.glob("keras_parewire-*.whl")), *clones]
    if not sources:
        raise FileNotFoundError(
            "Upload a wheel of keras_parewire beside this notebook, or open "
            "the notebook inside a clone of the repository."
        )
    needed.append(str(sources[0]))
backends = [name for name in ("tensorflow", "jax", "torch") if find(name)]
if not backends:
    backends = ["jax"]
    needed += backends
os.environ.setdefault("KERAS_BACKEND", backends[0])
if needed:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *needed], check=True
    )
    importlib.invalidate_caches()
