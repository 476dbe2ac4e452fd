# Installs the package from the clone that holds this notebook, or from a wheel
# beside it (in Colab, upload one that `pip wheel . --no-deps` has made).
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("keras_parewire") is None:
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
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", str(sources[0])],
        check=True,
    )
