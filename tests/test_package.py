import ast
import doctest
import os
import re
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import check_release
import keras
import pytest
from run_versions import LEGS

import keras_parewire
from keras_parewire.studies import Study

ROOT = Path(__file__).parents[1]
PACKAGE = Path(keras_parewire.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
)
BACKENDS = {"tensorflow", "jax", "torch"}


def test_the_backend_is_the_one_asked_for():
    # Otherwise Keras would choose by its configuration file.
    assert keras.backend.backend() == os.environ["KERAS_BACKEND"]


def test_public_names():
    assert sorted(keras_parewire.__all__) == [
        "ChannelAverage",
        "LookaheadPermutation",
        "PARewired",
        "RewireReport",
        "Sinusoidal",
        "StrengthStabilized",
        "animate_rewiring",
        "plot_connections",
        "plot_strength_variances",
        "plot_strengths",
        "register_axes",
        "reinitialize",
        "rewire",
        "rewire_model",
        "strength_report",
        "strength_variance",
        "strengths",
        "strip_initializers",
    ]
    for name in keras_parewire.__all__:
        assert getattr(keras_parewire, name).__doc__


def test_dependencies_are_keras_and_numpy():
    required = [
        re.match(r"[\w-]+", requirement).group()
        for requirement in metadata.requires("keras_parewire")
        if "extra ==" not in requirement
    ]
    assert sorted(required) == ["keras", "numpy"]


def imported(nodes):
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    assert not any(name.startswith("keras.src") for name in names)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("module", MODULES)
def test_imports(module):
    path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text())
    allowed = {"keras", "numpy", "keras_parewire"} | sys.stdlib_module_names
    assert imported(tree.body) <= allowed
    # Only plots need Matplotlib, and import it when they are made.
    if "visualization" in module:
        allowed = allowed | {"matplotlib"}
    if "studies" in module:
        allowed = allowed | {"matplotlib", "ray", "scipy"}
    assert imported(ast.walk(tree)) <= allowed


@pytest.mark.slow
def test_import_loads_nothing_heavy():
    # Keras loads its backend, and Matplotlib and SciPy where it finds them, so
    # these are taken away before.
    code = """
import sys, keras
for name in set(sys.modules):
    if name.split(".")[0] in ("matplotlib", "ray", "scipy"):
        del sys.modules[name]
before = set(sys.modules)
import keras_parewire.studies
print(*set(sys.modules) - before)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in process.stdout.split()}
    allowed = {"keras", "numpy", "keras_parewire"} | sys.stdlib_module_names
    assert loaded <= allowed


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("2.15.0", False),
        ("3.9.2", False),
        ("3.14.1", False),
        ("3.15.0", True),
        ("3.16.0.dev202611240300", True),
        ("4.0.0", True),
    ],
)
def test_keras_must_be_new_enough(version, accepted):
    code = (
        "import sys, types\n"
        "sys.modules['keras'] = types.ModuleType('keras')\n"
        f"sys.modules['keras'].__version__ = {version!r}\n"
        "import keras_parewire"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    # The stand-in has nothing to import, but no other version is refused.
    message = f"requires Keras 3.15 or later. Received: Keras {version}\n"
    assert process.stderr.endswith(message) != accepted
    assert process.returncode == 1


# They build a MobileNet, and draw an animation.
SLOW = {
    "keras_parewire.models.rewire",
    "keras_parewire.visualization.animation",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in MODULES
    ],
)
def test_docstring_examples(name):
    module = import_module(name.removesuffix(".__init__"))
    names = {**vars(keras_parewire), "keras": keras}
    results = doctest.testmod(module, extraglobs=names)
    assert results.failed == 0
    if any(
        getattr(keras_parewire, public).__module__ == module.__name__
        for public in keras_parewire.__all__
    ):
        assert results.attempted > 0


def fences(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.slow
def test_readme_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Study.run
    monkeypatch.setattr(Study, "run", lambda self, seeds: run(self, seeds[:2]))
    blocks = fences(ROOT / "README.md")
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    rows = names["study"].rows()
    assert [row["arm"] for row in rows] == ["plain", "pa"] * 2


def ci_commands():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    return lines[lines.index('cd "$(dirname "$0")/.."') + 1 :]


def test_ci_runs_the_test_command_of_the_readme():
    [command] = re.findall(
        r"^python3 -m venv .*python tests/run_backends\.py$",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    expected = command.split(" && ")
    assert ci_commands()[: len(expected)] == expected


def test_ci_opens_the_site():
    # The command of the README leaves its tests out.
    assert (
        'KERAS_BACKEND=jax python -m pytest -m "" tests/docs' in ci_commands()
    )


def test_pre_commit_runs_the_checks_of_ci():
    hooks = re.findall(
        r"^ +entry: (.*)$",
        (ROOT / ".pre-commit-config.yaml").read_text(),
        re.MULTILINE,
    )
    assert hooks
    assert ci_commands()[-len(hooks) :] == hooks


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


def test_workflows_run_every_leg():
    ran = {}
    for name in ("tests", "nightly"):
        path = ROOT / ".github" / "workflows" / f"{name}.yml"
        text = path.read_text()
        lists = re.findall(r"^ +(leg|backend): \[(.*)\]$", text, re.MULTILINE)
        matrix = {key: set(re.findall(r"[\w.-]+", row)) for key, row in lists}
        assert matrix["backend"] == BACKENDS
        ran[name] = matrix["leg"]
        # It installs the Pythons of its legs, or else they would be skipped.
        pythons = set(re.findall(r"^ +(3\.\d+)$", text, re.MULTILINE))
        assert {LEGS[leg].python for leg in matrix["leg"]} <= pythons
    assert ran["nightly"] == {name for name in LEGS if "nightly" in name}
    assert ran["tests"] == set(LEGS) - ran["nightly"]
