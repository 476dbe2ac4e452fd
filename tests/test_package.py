import ast
import doctest
import os
import re
import runpy
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import keras
import pytest

import keras_parewire
from keras_parewire.studies import Study

ROOT = Path(__file__).parents[1]
PACKAGE = Path(keras_parewire.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
)


def test_the_backend_is_the_one_asked_for():
    # Otherwise Keras would choose by its configuration file.
    assert keras.backend.backend() == os.environ["KERAS_BACKEND"]


@pytest.mark.any_backend
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


@pytest.mark.any_backend
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


@pytest.mark.any_backend
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


# They train, or build a MobileNet, on which no backend makes a difference.
MARKS = {
    "keras_parewire.callbacks.lookahead_permutation": pytest.mark.any_backend,
    "keras_parewire.models.model_rewiring": pytest.mark.any_backend,
    "keras_parewire.studies.study": pytest.mark.any_backend,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=MARKS.get(name, ())) for name in MODULES],
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


@pytest.fixture
def short_studies(tmp_path, monkeypatch):
    """Studies of two seeds."""
    monkeypatch.chdir(tmp_path)
    run = Study.run
    monkeypatch.setattr(
        Study, "run", lambda self, seeds, **_: run(self, seeds[:2])
    )


def fences(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.any_backend
@pytest.mark.slow
def test_readme_examples(short_studies):
    blocks = fences(ROOT / "README.md")
    assert blocks
    for block in blocks:
        Path("block.py").write_text(block)
        names = runpy.run_path("block.py")
    rows = names["study"].rows()
    assert [row["arm"] for row in rows] == ["plain", "pa"] * 2


@pytest.mark.any_backend
@pytest.mark.slow
def test_the_study_of_the_gallery(short_studies):
    # The tests of the site leave it out.
    path = ROOT / "docs" / "gallery" / "plot_0_paired_study.py"
    names = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    assert len(names["study"].rows()) == 2 * len(names["arms"])
