"""The files of the repository agree with one another."""

import re
from pathlib import Path

import check_release
import pytest
from run_versions import BACKENDS, LEGS

import keras_parewire

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[1]


def test_ci_runs_the_test_command_of_the_readme():
    [command] = re.findall(
        r"^python3 -m venv .*python tests/run_backends\.py$",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    run = [line for line in lines if not line.startswith("#")]
    start = run.index("python3 -m venv .venv")
    expected = command.split(" && ")
    assert run[start : start + len(expected)] == expected


def test_what_keras_does_not_document_is_tested():
    page = (ROOT / "docs" / "undocumented_keras.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    tests = "".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    assert rows
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        for name in named:
            assert f"def {name}(" in tests, name


def test_version_is_the_same_everywhere():
    version = check_release.check_version(None)
    assert version == keras_parewire.__version__
    assert version in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("tag", "heading", "message"),
    [
        ("v0.2.0", "## [0.2.0] - 2027-01-31", None),
        ("v0.2.1", "## [0.2.0] - 2027-01-31", "tag v0.2.1, but version 0.2.0"),
        ("v0.2.0", "## [Unreleased]", r"no section \[0.2.0\]"),
        ("v0.2.0", "## [0.2.0]", r"no section \[0.2.0\] with a date"),
        ("v0.2.0", "## [0.2.00] - 2027-01-31", r"no section \[0.2.0\]"),
    ],
)
def test_a_release_needs_its_entry_in_the_changelog(
    tmp_path, monkeypatch, tag, heading, message
):
    monkeypatch.setattr(check_release, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("title: a\nversion: 0.2.0\n")
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n")
    if message is None:
        assert check_release.check_version(tag) == "0.2.0"
        (tmp_path / "CITATION.cff").write_text("title: a\nversion: 0.1.0\n")
        message = "CITATION.cff does not name version 0.2.0"
    with pytest.raises(SystemExit, match=f"Not fit for release: .*{message}"):
        check_release.check_version(tag)


def test_the_workflow_runs_every_leg():
    text = (ROOT / ".github" / "workflows" / "versions.yml").read_text()
    lists = re.findall(r"^ +(leg|backend): \[(.*)\]$", text, re.MULTILINE)
    matrix = {key: set(re.findall(r"[\w.-]+", row)) for key, row in lists}
    assert matrix == {"leg": {*LEGS}, "backend": {*BACKENDS}}
    # It installs the Pythons of its legs, or else they would be skipped.
    pythons = set(re.findall(r"^ +(3\.\d+)$", text, re.MULTILINE))
    assert {leg.python for leg in LEGS.values()} <= pythons
