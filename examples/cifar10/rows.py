"""Reads the rows of the CIFAR-10 study, in each form that they have had."""

import csv
import json
import math
from pathlib import Path
from typing import NamedTuple

from cifar10.arms import make_arms
from cifar10.trainer import CURVES

# Version 3 computes what version 2 did, and only stores it in another form.
SAME_RUNS = {3: 2}
# Versions 1 and 2 stored each curve as a list of numbers.
LISTS = {"losses": "loss", "accuracies": "accuracy"}
LISTS["val_accuracies"] = "val_accuracy"
SINGLE = ("test_accuracy", "strength_variance", "strength_kurtosis")


class Section(NamedTuple):
    """All rows of one configuration, as `keras_parewire.studies` has them."""

    stem: str
    config: dict
    devices: set
    rows: dict


def read(paths):
    """Reads folders and CSV files of studies, and joins those of one kind.

    Returns:
        A list of `Section`, whose rows are by arm and seed.
    """
    sections = {}
    for path in map(Path, paths):
        config, found = (_read_folder if path.is_dir() else _read_csv)(path)
        if not found:
            raise ValueError(f"A study must have rows. Received: {path}")
        version = config["study_version"]
        kind = {**config, "study_version": SAME_RUNS.get(version, version)}
        section = sections.setdefault(
            json.dumps(kind, sort_keys=True),
            Section(path.stem, config, set(), {}),
        )
        for row in found:
            section.devices.add(row.pop("device"))
            run = row["arm"], row["seed"]
            if section.rows.setdefault(run, row) != row:
                raise ValueError(
                    "Rows of one configuration must be of different runs or "
                    f"the same. Received: {path}, whose row of the arm "
                    f"{run[0]!r}, seed {run[1]} differs from another one"
                )
    return list(sections.values())


def _read_folder(path):
    config = json.loads((path / "study.json").read_text())["config"]
    arms = list(make_arms(candidates=1))
    files = path.glob("runs/[0-9]*.json")
    rows = [json.loads(file.read_text()) for file in files]
    rows.sort(key=lambda row: (row["seed"], arms.index(row["arm"])))
    return config, [
        {
            **{name: row[name] for name in ("arm", "seed", "metrics", "error")},
            "device": row["identity"]["environment"]["device"],
        }
        for row in rows
    ]


def _read_csv(path):
    config = json.loads(path.with_suffix(".json").read_text())
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    rows = [
        {
            "arm": row["arm"],
            "seed": int(row["seed"]),
            "metrics": None if row.get("error") else _metrics(row, config),
            "error": row.get("error") or None,
            "device": row["device"],
        }
        for row in found
        # A row without its end was being written when its process was killed.
        if None not in row.values()
    ]
    return config, rows


def _metrics(row, config):
    if "losses" in row:
        curves = {
            f"epoch_{epoch}_{curve}": value
            for column, curve in LISTS.items()
            for epoch, value in enumerate(json.loads(row[column]), 1)
        }
    else:
        curves = {
            name: float(row[name])
            for epoch in range(1, config["epochs"] + 1)
            for name in (f"epoch_{epoch}_{curve}" for curve in CURVES)
        }
    single = {name: float(row[name]) for name in SINGLE}
    # Version 2 had none for strengths that are equal up to rounding.
    if math.isnan(single["strength_kurtosis"]):
        single["strength_kurtosis"] = 0.0
    return curves | single
