"""Measures what `import keras_parewire` adds to `import keras`.

    KERAS_BACKEND=jax python tests/check_import_cost.py

Adds up the times that `python -X importtime` gives for the single modules:
those that `import keras` loads by itself, and those that come on top of them.
Prints the median of their ratio over several processes, and fails if it is
above 5 %. Modules of a run compete with other programs alike, so the ratio
holds on a busy machine too.
"""

import re
import statistics
import subprocess
import sys

LIMIT = 0.05
ROUNDS = 5


def module_times(module: str) -> dict[str, int]:
    """Returns the microseconds that each module took to import."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        capture_output=True,
        text=True,
        check=True,
    )
    # Own time | with all that it imports | name.
    lines = re.findall(
        r"^import time: +(\d+) \| +\d+ \| +(\S+)$", process.stderr, re.MULTILINE
    )
    return {name: int(own) for own, name in lines}


def main() -> int:
    """Measures and prints."""
    of_keras = module_times("keras").keys()
    shares, loaded = [], {}
    for _ in range(ROUNDS):
        times = module_times("keras_parewire")
        loaded = {k: t for k, t in times.items() if k not in of_keras}
        added = sum(loaded.values())
        shares.append(added / (sum(times.values()) - added))
    share = statistics.median(shares)
    ours = sum(name.split(".")[0] == "keras_parewire" for name in loaded)
    print(
        f"`import keras_parewire` adds {100 * share:.1f} % to `import keras` "
        f"({100 * min(shares):.1f} to {100 * max(shares):.1f} % in {ROUNDS} "
        f"processes), by {ours} modules of its own and {len(loaded) - ours} "
        "others"
    )
    return int(share > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
