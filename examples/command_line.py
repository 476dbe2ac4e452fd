"""The command-line conventions that all examples share.

Lists are separated by commas (`--arms plain,rewired`), numbers may be ranges
(`--seeds 0-4,7`), and files go to the folder of `--out`. The environment
variable `KERAS_BACKEND` alone chooses the backend.

Example:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arms", type=names, default="plain,rewired")
    parser.add_argument("--seeds", type=numbers, default="0-4")
    parser.add_argument("--out", type=Path, default=output_folder("digits"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
"""

import argparse
from pathlib import Path

_OUTPUT = Path(__file__).resolve().parents[1] / "output"


def names(text: str) -> list[str]:
    """Parses names separated by commas; keeps their order and drops repeats."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise argparse.ArgumentTypeError(
            "expected names separated by commas, as in plain,rewired. "
            f"Received: {text!r}"
        )
    return list(dict.fromkeys(parts))


def numbers(text: str) -> list[int]:
    """Parses numbers and ascending ranges; keeps their order and drops repeats.

    A range includes its last number: `0-2,5` is `[0, 1, 2, 5]`.
    """
    found: dict[int, None] = {}
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            start, stop = int(first), int(last if dash else first)
            if stop < start:
                raise ValueError
            found.update(dict.fromkeys(range(start, stop + 1)))
    except ValueError:
        raise argparse.ArgumentTypeError(
            "expected numbers and ascending ranges, as in 0-4,7. "
            f"Received: {text!r}"
        ) from None
    return list(found)


def output_folder(name: str) -> Path:
    """Returns the default of `--out`, a folder that git ignores.

    The folder is not created here, so that nothing is left behind when `--out`
    names another one.
    """
    return _OUTPUT / name
