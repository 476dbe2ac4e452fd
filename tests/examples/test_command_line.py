import argparse
import subprocess
from pathlib import Path

import pytest
from command_line import names, numbers, output_folder

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[2]


def test_names():
    assert names("plain") == ["plain"]
    assert names("rewired, plain,rewired") == ["rewired", "plain"]


def test_numbers():
    assert numbers("5") == [5]
    assert numbers("0-2,5") == [0, 1, 2, 5]
    assert numbers("0-3,7,2-4") == [0, 1, 2, 3, 7, 4]


@pytest.mark.parametrize("text", ["", "3-1", "-1", "a", "1,,2", "0:5", "1-"])
def test_malformed_numbers(text):
    with pytest.raises(argparse.ArgumentTypeError, match="Received: "):
        numbers(text)


@pytest.mark.parametrize("text", ["", ",", "plain,,rewired"])
def test_malformed_names(text):
    with pytest.raises(argparse.ArgumentTypeError, match="Received: "):
        names(text)


def test_output_folder_is_ignored_by_git_and_not_created():
    folder = output_folder("surely-unused")
    assert folder == ROOT / "output" / "surely-unused"
    assert not folder.exists()
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    command = ["git", "check-ignore", "--quiet", folder / "file.png"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0
