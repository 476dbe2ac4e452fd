"""The first cell of the notebooks installs what is missing, and only that."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_backend

CELL = Path(__file__).parents[2] / "docs" / "install_cell.py"
ALL = {"jax", "keras", "keras_parewire", "matplotlib", "sklearn", "torch"}


@pytest.fixture
def run_cell(monkeypatch, tmp_path):
    """Returns what the cell installs where only some modules are there."""

    def run(installed):
        commands = []
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda module: module if module in installed else None,
        )
        monkeypatch.setattr(
            subprocess, "run", lambda command, check: commands.append(command)
        )
        exec(compile(CELL.read_text(), str(CELL), "exec"), {})
        return [name for command in commands for name in command[5:]]

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERAS_BACKEND")
    return run


def test_only_what_is_missing_is_installed(run_cell, tmp_path):
    assert run_cell(ALL) == []
    assert os.environ["KERAS_BACKEND"] == "jax"
    with pytest.raises(FileNotFoundError, match="Upload a wheel"):
        run_cell(ALL - {"keras_parewire"})
    wheel = tmp_path / "keras_parewire-0.1.0-py3-none-any.whl"
    wheel.touch()
    assert run_cell(set()) == ["matplotlib", "scikit-learn", str(wheel), "jax"]
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_the_clone_around_the_notebook_is_installed(
    run_cell, tmp_path, monkeypatch
):
    (tmp_path / "keras_parewire").mkdir()
    (tmp_path / "keras_parewire" / "__init__.py").touch()
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    assert run_cell(ALL - {"keras_parewire"}) == [str(tmp_path)]
    # At the root of the clone the package is found without being installed.
    monkeypatch.chdir(tmp_path)
    assert run_cell(ALL - {"keras"}) == [str(tmp_path)]
