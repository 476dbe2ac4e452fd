"""The rows of the CIFAR-10 study in one file."""

import csv
import json
from pathlib import Path
from typing import NamedTuple


class Section(NamedTuple):
    """All rows of one configuration."""

    stem: str
    config: dict
    device: str
    rows: list


def write(study, config):
    """Writes a study's rows and its configuration beside its folder."""
    found = study.rows()
    text = json.dumps(config, indent=2)
    study.path.with_suffix(".json").write_text(text + "\n")
    path = study.path.with_suffix(".csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(found)


def read(path):
    """Reads the CSV file of a study, and the configuration beside it."""
    path = Path(path)
    config = json.loads(path.with_suffix(".json").read_text())
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns, rows = reader.fieldnames, list(reader)
    if not rows:
        raise ValueError(f"A study must have rows. Received: {path}")
    # As `write` orders them.
    metrics = columns[columns.index("seed") + 1 : columns.index("error")]
    return Section(
        path.stem,
        config,
        "; ".join(sorted({row["device"] for row in rows})),
        [
            {
                "arm": row["arm"],
                "seed": int(row["seed"]),
                "metrics": None
                if row["error"]
                else {name: float(row[name]) for name in metrics},
                "error": row["error"] or None,
            }
            for row in rows
        ],
    )
