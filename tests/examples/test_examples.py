import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import child_environment

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(monkeypatch, capfd):
    """Runs a script in this process, and returns what it prints."""
    # For the processes that the script starts.
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])

    def call(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capfd.readouterr().out

    return call


def run_anew(script, *arguments):
    """Runs a script whose memory or devices take a process of its own."""
    process = subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        env=child_environment(),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.any_backend
def test_benchmark_measures_memory():
    output = run_anew("benchmark.py", "--measure", 4096, 4096)
    measured = json.loads(output.splitlines()[-1])
    assert measured["seconds"] > 0
    assert 2 < measured["kernels"] < 4


@pytest.mark.any_backend
def test_scale_of_the_rule(run):
    arguments = ["--widths", "64", "--deviations", "0.004,fan_in"]
    rows = run("scale_of_the_rule.py", *arguments, "--draws", 2).splitlines()
    table = [[cell.split()[0] for cell in row.split("|")[1:-1]] for row in rows]
    names = [cell.strip() for cell in rows[0].split("|")[1:-1]]
    small, large = (dict(zip(names, row, strict=True)) for row in table[2:])
    # Small weights are hardly rewired, whereas an offset knows no scale.
    assert float(small["exponent 1"]) < 2 < 4 < float(large["exponent 1"])
    assert small["offset 1 sd"] == large["offset 1 sd"]
    assert float(small["offset 1 sd"]) > 4


@pytest.mark.backend("jax")
def test_benchmark_of_sharded_kernels(tmp_path):
    run_anew("benchmark_sharded.py", "--rounds=1", "--quick", "--out", tmp_path)
    measured = json.loads((tmp_path / "benchmark-sharded.json").read_text())
    assert len(measured["twelve kernels"]) == 1
    assert measured["large kernel"]["sharded"]["seconds"] > 0
    for count, rows in measured["hosts"].items():
        assert len(rows) == int(count)
        assert all(row["processor seconds"] > 0 for row in rows)


@pytest.mark.backend("jax", "tensorflow")
def test_benchmark_of_traced_kernels(run, tmp_path, monkeypatch):
    # The processes that it starts only tell peaks of memory apart.
    monkeypatch.setattr(
        subprocess,
        "check_output",
        lambda command: run(Path(command[1]).name, *command[2:]),
    )
    run("benchmark_traced.py", "--quick", "--out", tmp_path)
    [path] = tmp_path.glob("benchmark-traced-*.json")
    [row] = json.loads(path.read_text())
    # The only constant of some size is the table of the noise, 256 KiB.
    assert row["rewired"]["program in bytes"] < 2**20


@pytest.mark.any_backend
def test_benchmark_of_studies(run):
    script = "benchmark_studies.py", "--blocks", 1, "--seeds", 1, "--part"
    loop, kept = (
        json.loads(run(*script, *part).splitlines()[-1])
        for part in (["loop"], ["mlp", "kept"])
    )
    assert loop["study / loop"] > 0
    assert kept["processor s a run"] > 0


@pytest.mark.any_backend
def test_own_model(run, tmp_path):
    output = run("own_model.py", "--seeds", "0,1", "--out", tmp_path)
    assert "compare `pa` with `plain` in accuracy" in output
    assert len(list((tmp_path / "runs").iterdir())) == 4


@pytest.mark.any_backend
def test_quickstart(run, tmp_path):
    arguments = ["--seeds", "3-4", "--epochs", 1, "--out", tmp_path]
    output = run("quickstart.py", *arguments)
    assert "Strength variance, seed 3" in output
    assert "mean ± standard deviation of 2 seeds" in output
    assert "its predictions agree" in output
    assert re.search(r"lowered the strength variances \d+ to \d+ times", output)
    assert "2 seeds do not tell whether that is more than chance" in output
    assert (tmp_path / "quickstart.png").exists()


@pytest.mark.any_backend
def test_whole_model(run, tmp_path):
    output = run("whole_model.py", "--model", "MobileNet", "--out", tmp_path)
    assert "conv_pw_13/kernel" in output
    assert "skipped: " in output
    assert f"strengths.png to {tmp_path}" in output
    for name in ("strengths.png", "variances.png"):
        assert (tmp_path / name).exists()
