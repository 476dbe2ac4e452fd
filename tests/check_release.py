"""Builds the package and checks what would be released.

    python tests/check_release.py [--tag v0.1.0] [--backends jax,torch]

Builds the sdist and the wheel into `dist`, checks their metadata and contents,
and installs each on each backend into an empty virtual environment, where the
first example of the README has to run, and importing the package must not cost
much. In another one, pip has to find a version of everything that each extra
needs. With `--tag`, the tag and the changelog must name the version.

What pip takes can be limited by its own variables, such as
`PIP_CONSTRAINT=FILE` with `torch==2.13.0` in the file.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))

from command_line import names  # noqa: E402

IMPORT_COST = ROOT / "tests" / "check_import_cost.py"


def run(*command: str | Path, **variables: str) -> None:
    """Runs a command that does not see the repository; stops if it fails."""
    print("$", *command, flush=True)
    environment = {**os.environ, **variables}
    environment.pop("PYTHONPATH", None)
    subprocess.run(
        command, check=True, cwd=tempfile.gettempdir(), env=environment
    )


def check(condition: bool, message: str) -> None:
    """Stops with a message unless the condition holds."""
    if not condition:
        sys.exit(f"Not fit for release: {message}")


def project() -> dict[str, Any]:
    """Returns the table `project` of pyproject.toml."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return cast(dict[str, Any], table)


def check_version(tag: str | None) -> str:
    """Checks that all places name the same version, and returns it."""
    version: str = project()["version"]
    check(
        f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(),
        f"CITATION.cff does not name version {version}",
    )
    changelog = (ROOT / "CHANGELOG.md").read_text()
    if tag is not None:
        check(tag == f"v{version}", f"tag {tag}, but version {version}")
        check(
            re.search(rf"^## \[{re.escape(version)}\] - ", changelog, re.M)
            is not None,
            f"the changelog has no section [{version}] with a date",
        )
    return version


def check_contents(wheel: Path, sdist: Path) -> None:
    """Checks that the archives hold what they should, and no more."""
    files = zipfile.ZipFile(wheel).namelist()
    info = f"{'-'.join(wheel.stem.split('-')[:2])}.dist-info/"
    package = {name for name in files if not name.startswith(info)}
    committed = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "keras_parewire").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    check(package == committed, f"the wheel differs by {package ^ committed}")
    with tarfile.open(sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("LICENSE", "README.md", "tests/run_backends.py"):
        check(name in found, f"the sdist lacks {name}")
    print(f"wheel: {len(files)} files, {wheel.stat().st_size} bytes")


def first_example() -> str:
    """Returns the first block of Python in the README, and draws a kernel."""
    text = (ROOT / "README.md").read_text()
    block: str = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    return f"{block}\nlayer.build((None, 64))\nprint(layer.kernel.shape)"


def make_environment(folder: Path) -> Path:
    """Makes an empty virtual environment and returns its interpreter."""
    run(sys.executable, "-m", "venv", folder)
    return folder / "bin" / "python"


def main() -> None:
    """Builds and checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tag", help="the tag to be released")
    parser.add_argument(
        "--backends", type=names, default="tensorflow,jax,torch"
    )
    arguments = parser.parse_args()
    version = check_version(arguments.tag)
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        python = make_environment(Path(temporary) / "tools")
        run(python, "-m", "pip", "install", "--quiet", "build", "twine")
        run(python, "-m", "build", "--outdir", dist, ROOT)
        wheel = dist / f"keras_parewire-{version}-py3-none-any.whl"
        sdist = dist / f"keras_parewire-{version}.tar.gz"
        run(python, "-m", "twine", "check", "--strict", wheel, sdist)
        check_contents(wheel, sdist)
        empty = Path(temporary) / "empty"
        python = make_environment(empty)
        for extra in project()["optional-dependencies"]:
            requirement = f"keras_parewire[{extra}] @ {wheel.as_uri()}"
            pip = (python, "-m", "pip", "install", "--quiet")
            run(*pip, "--dry-run", requirement)
        shutil.rmtree(empty)
        for backend in arguments.backends:
            for archive in (wheel, sdist):
                python = make_environment(empty)
                requirement = f"keras_parewire[{backend}] @ {archive.as_uri()}"
                run(python, "-m", "pip", "install", "--quiet", requirement)
                run(python, "-c", first_example(), KERAS_BACKEND=backend)
                run(python, IMPORT_COST, KERAS_BACKEND=backend)
                shutil.rmtree(empty)
    print(f"Fit for release: {version}")


if __name__ == "__main__":
    main()
