"""Two processes with four devices each, as on two hosts."""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import child_environment

SCRIPT = Path(__file__).with_name("train.py")


def start(count, process, port, path):
    return subprocess.Popen(
        [sys.executable, SCRIPT, str(count), str(process), str(port), path],
        env=child_environment(
            JAX_DISABLE_MOST_OPTIMIZATIONS="0",
            JAX_PLATFORMS="cpu",
            JAX_NUM_CPU_DEVICES=str(8 // count),
            XLA_FLAGS="",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.backend("jax")
def test_two_processes_give_the_bits_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jobs = {
        (2, 0): tmp_path / "first.npz",
        (2, 1): tmp_path / "second.npz",
        (1, 0): tmp_path / "alone.npz",
    }
    processes = [start(*job, port, path) for job, path in jobs.items()]
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    first, second, alone = (np.load(path) for path in jobs.values())
    assert len(alone.files) > 25
    for name in alone.files:
        for other in (first, second):
            np.testing.assert_array_equal(other[name], alone[name], name)
