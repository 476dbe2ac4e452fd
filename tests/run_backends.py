"""Runs the whole suite once on each backend, in a process of its own.

    python tests/run_backends.py [BACKEND ...] [-- PYTEST_ARGUMENT ...]

Fails if a backend is not installed, fails a test, or runs none.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")
ROOT = Path(__file__).parents[1]


def main(arguments):
    split = arguments.index("--") if "--" in arguments else len(arguments)
    backends = arguments[:split] or BACKENDS
    missing = [name for name in backends if not importlib.util.find_spec(name)]
    if missing:
        return f"Not installed: {', '.join(missing)}"
    failed = []
    for backend in backends:
        print(f"\n=== {backend} ===", flush=True)
        process = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments[split + 1 :]],
            cwd=ROOT,
            env={**os.environ, "KERAS_BACKEND": backend},
        )
        # pytest's status is not 0 either when it has collected no test.
        if process.returncode:
            failed.append(backend)
    if failed:
        return f"Failed: {', '.join(failed)}"
    print(f"\nPassed: {', '.join(backends)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
