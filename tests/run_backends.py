"""Runs the whole suite, slow tests too, on each backend, side by side.

    python tests/run_backends.py [BACKEND ...] [-- PYTEST_ARGUMENT ...]

Tests marked `any_backend`, to which no backend makes a difference, run on the
first of the backends alone. Fails if a backend is not installed, fails a test,
or runs none. A backend's output is shown when it has finished. The site's tests
are left out.
"""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# PyTorch compiles nothing, so it has time for what runs once.
BACKENDS = ("torch", "tensorflow", "jax")
ROOT = Path(__file__).parents[1]


def run_suite(backend, marks, pytest_arguments):
    process = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-m", marks),
            "--ignore=tests/docs/test_site.py",
            *pytest_arguments,
        ],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # At once, so that the outputs of two backends do not mix.
    print(f"\n=== {backend} ===\n{process.stdout}", flush=True)
    return process.returncode


def main(arguments):
    split = arguments.index("--") if "--" in arguments else len(arguments)
    backends = arguments[:split] or BACKENDS
    missing = [name for name in backends if not importlib.util.find_spec(name)]
    if missing:
        return f"Not installed: {', '.join(missing)}"
    # Compilation uses a single core, so running all at once saves time.
    with ThreadPoolExecutor() as pool:
        runs = pool.map(
            lambda backend: run_suite(
                backend,
                "" if backend == backends[0] else "not any_backend",
                arguments[split + 1 :],
            ),
            backends,
        )
        codes = dict(zip(backends, runs, strict=True))
    # pytest's code is not 0 when it has collected no tests, either.
    failed = [backend for backend, code in codes.items() if code]
    if failed:
        return f"Failed: {', '.join(failed)}"
    print(f"\nPassed: {', '.join(backends)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
