import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_backend

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model.py"


@pytest.mark.slow
def test_own_model(tmp_path):
    command = [sys.executable, EXAMPLE, "--seeds", "0,1", "--out", tmp_path]
    process = subprocess.run(
        command, capture_output=True, text=True, check=True
    )
    assert "`pa` with `plain` in val_accuracy" in process.stdout
    assert len(list((tmp_path / "runs").iterdir())) == 4
    assert len(EXAMPLE.read_text().splitlines()) <= 40
