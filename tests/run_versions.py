"""Runs the fast tests on several versions of Keras, NumPy and Python.

    python tests/run_versions.py [--legs oldest,nightly] [--backends jax,torch]
                                 [PYTEST_ARGUMENT ...]

The slow tests that `docs/undocumented_keras.md` names run too. Each leg on each
backend gets a virtual environment in `build/versions`, which is deleted after
use. What a leg does not pin is the newest that pip finds; pip's own variables
can pin more, such as `PIP_CONSTRAINT=FILE` with `torch==2.13.0` in the file. A
Python that the machine does not have is reported and skipped. Prints a table in
Markdown, a row for each, and what pytest and pip say as errors; fails if an
installation or a test does.
"""

import argparse
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))

from command_line import names  # noqa: E402

BACKENDS = ("tensorflow", "jax", "torch")
# What the fast tests need besides a backend.
TOOLS = ("matplotlib", "pillow", "pytest", "scipy")


OLDEST = "keras==3.15.0"
# All versions of this package are pre-releases, which pip takes only if the
# requirement names one.
NIGHTLY = "keras-nightly>=0.dev0"


class Leg(NamedTuple):
    """A combination of versions."""

    python: str
    keras: str = "keras"
    numpy: str = "numpy>=2"


# Every Keras meets both NumPys. NumPy 1.26 has no builds for Python 3.13, and
# the newest NumPy and JAX have none for 3.11.
LEGS = {
    "oldest": Leg("3.11", OLDEST, "numpy==1.26.*"),
    "oldest-numpy2": Leg("3.12", OLDEST),
    "newest-numpy1": Leg("3.12", numpy="numpy==1.26.*"),
    "3.11": Leg("3.11"),
    "3.12": Leg("3.12"),
    "3.13": Leg("3.13"),
    "nightly-numpy1": Leg("3.11", NIGHTLY, "numpy==1.26.*"),
    "nightly": Leg("3.13", NIGHTLY),
}


def find_python(version: str) -> str | None:
    """Finds an interpreter on the path, or one of pyenv's."""
    found = sorted(
        Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")
    )
    on_path = shutil.which(f"python{version}")
    # A shim of pyenv may be on the path for a version that is not active.
    if on_path and "shims" not in Path(on_path).parts:
        return on_path
    return str(found[-1]) if found else None


def run(*command: str | Path, **variables: str) -> tuple[bool, str]:
    """Runs a command and returns whether it succeeded, and its output."""
    process = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process.returncode == 0, process.stdout


def install(leg: Leg, backend: str, interpreter: str, folder: Path) -> Path:
    """Makes the environment of a leg and returns its interpreter."""
    python = folder / "bin" / "python"
    pip = (python, "-m", "pip", "--quiet")
    pins = [leg.numpy] if leg.keras == NIGHTLY else [leg.numpy, leg.keras]
    commands: list[tuple[str | Path, ...]] = [
        (interpreter, "-m", "venv", "--clear", folder),
        (*pip, "install", "-e", f".[{backend}]", *TOOLS, *pins),
    ]
    if leg.keras == NIGHTLY:
        # Both packages install the module `keras`, so one has to go.
        commands += [
            (*pip, "uninstall", "--yes", "keras"),
            (*pip, "install", NIGHTLY, leg.numpy),
        ]
    for command in commands:
        succeeded, output = run(*command)
        if not succeeded:
            raise RuntimeError(f"{' '.join(map(str, command))}\n{output}")
    return python


def versions(python: Path, backend: str) -> list[str]:
    """Returns the versions of Keras, NumPy and the backend."""
    code = f"""
import keras, numpy, {backend}
print(keras.__version__, numpy.__version__, {backend}.__version__)
"""
    succeeded, output = run(python, "-c", code, KERAS_BACKEND=backend)
    if not succeeded:
        raise RuntimeError(output)
    return output.split()[-3:]


def try_leg(
    name: str, backend: str, pytest_arguments: list[str]
) -> tuple[list[str], bool]:
    """Returns a row of the table and whether it counts as a success."""
    leg = LEGS[name]
    interpreter = find_python(leg.python)
    row = [name, leg.python]
    if interpreter is None:
        return [*row, "", "", "", "no such Python here"], True
    folder = ROOT / "build" / "versions" / f"{name}-{backend}"
    try:
        python = install(leg, backend, interpreter, folder)
        keras, numpy, installed = versions(python, backend)
    except RuntimeError as error:
        print(error, file=sys.stderr, flush=True)
        return [*row, "", "", backend, "not installed"], False
    else:
        succeeded, output = run(
            *(python, "-m", "pytest", "-q", "-m", "not slow or undocumented"),
            *("--ignore", "tests/examples"),
            *pytest_arguments,
            KERAS_BACKEND=backend,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n=== {name}, {backend} ===\n{output}", file=sys.stderr, flush=True)
    result = output.splitlines()[-1].strip("= ") if output else "no output"
    return [*row, keras, numpy, f"{backend} {installed}", result], succeeded


def print_row(cells: list[str]) -> None:
    """Prints a row of the table in Markdown."""
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> int:
    """Runs the legs and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--legs", type=names, default=",".join(LEGS))
    parser.add_argument("--backends", type=names, default=",".join(BACKENDS))
    arguments, pytest_arguments = parser.parse_known_args()
    for given, known, option in (
        (arguments.legs, LEGS, "--legs"),
        (arguments.backends, BACKENDS, "--backends"),
    ):
        if not set(given) <= set(known):
            parser.error(f"{option} must be some of {', '.join(known)}")
    header = ["leg", "Python", "Keras", "NumPy", "backend"]
    header.append(f"fast tests on {datetime.now(UTC):%Y-%m-%d}")
    print_row(header)
    print_row(["---"] * len(header))
    succeeded = True
    for name in arguments.legs:
        for backend in arguments.backends:
            row, good = try_leg(name, backend, pytest_arguments)
            print_row(row)
            succeeded = succeeded and good
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
