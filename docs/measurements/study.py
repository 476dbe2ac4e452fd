"""Runs the README's study; keeps its report and its plot beside this file."""

import os
import re
import runpy
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
# More threads would change the last digits of a training.
os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).parent


def main():
    """Runs the block of the README that makes a `study`."""
    text = (HERE.parents[1] / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    [block] = [block for block in blocks if "study.run" in block]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("block.py").write_text(block)
        study = runpy.run_path("block.py")["study"]
        report = study.report(margin=0.02)
        report, _ = report.removeprefix("# Study\n\n").split("## Configuration")
        (HERE / "study.md").write_text(report.strip() + "\n")
        study.plot(margin=0.02).savefig(HERE / "study.png", dpi=120)


if __name__ == "__main__":
    main()
