"""The rows of a study: a folder with one file for each run.

- `study.json`: the configuration, the code, the model and the environment of
  all rows.
- `arms/<arm>.json`: what an arm is, once it has a row.
- `runs/<seed>-<arm>.json`: the row of one run, with its whole identity, so that
  rows of several folders can be put into one.

Each file exists whole or not at all, and once it exists it is never changed or
replaced, on any system and with any number of processes. So no run exists
twice, a listing of the folder shows which runs are missing, and of two studies
that begin in one folder at once, one is refused.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from itertools import filterfalse
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from keras_parewire.studies.arms import quoted
from keras_parewire.studies.files import (
    DRAFT,
    create,
    load,
)
from keras_parewire.studies.identity import differences

FORMAT = 2
Run = tuple[str, int]
Row = dict[str, Any]

_ROW = re.compile(r"(0|[1-9][0-9]*)-(.+)\.json")
_KEYS = ("metrics", "error", "seconds", "utc", "identity")
_FOUND_OUT = ("model", "environment")


class Rows:
    """The rows of one study.

    Args:
        path: The study's folder, created when there is a row to write.
        arms: Descriptions of the arms by name.
        identity: What else all rows depend on, by name. What `identify` says of
            the model comes with the first row.
        any_code: Whether rows of other code count.
    """

    def __init__(
        self,
        path: Any,
        arms: Mapping[str, Any],
        identity: Mapping[str, Any],
        any_code: bool = False,
    ) -> None:
        self.path: Path = Path(path)
        self.identity: dict[str, Any] = dict(identity)
        self._folder = self.path / "runs"
        self._arms = arms
        self._any_code = any_code
        self._quoted = {arm: quoted(arm) for arm in arms}
        self._begun: set[str] = set()
        self._read: dict[Run, Row] = {}
        self._check_folder()

    def begin(self, found_out: Mapping[str, Any]) -> None:
        """Creates the folder, or checks that it belongs to the same study."""
        identity = {**self.identity, **found_out}
        self._folder.mkdir(parents=True, exist_ok=True)
        (self.path / "arms").mkdir(exist_ok=True)
        self._claim(self.path / "study.json", {"format": FORMAT, **identity})
        self.identity = identity

    def runs(self) -> set[Run]:
        """Returns the runs that exist, by one listing of the folder."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return set()
        # Others are drafts, or the user's own.
        found = filter(None, map(_ROW.fullmatch, names))
        return {(unquote(match[2]), int(match[1])) for match in found}

    def add(self, row: Row) -> Row:
        """Writes the row of one run, and returns the one that counts.

        That is the row of another process, if one has made the same run.
        """
        arm, seed = row["arm"], row["seed"]
        if arm not in self._begun:
            self._claim(*self._arm_file(arm))
            self._begun.add(arm)
        row = {**row, "identity": self._identity_of(arm)}
        if not create(Path(self._file(arm, seed)), row):
            return self.read(arm, seed)
        self._read[arm, seed] = row
        return row

    def read(self, arm: str, seed: int) -> Row:
        """Returns the row of a run that exists."""
        if (arm, seed) not in self._read:
            path = self._file(arm, seed)
            row = load(path)
            problem = _problem(row, arm, seed) or differences(
                row["identity"],
                self._identity_of(arm),
                any_code=self._any_code,
            )
            if problem:
                raise ValueError(
                    "A row must be what a run of this study wrote; if you "
                    "delete its file, `run` makes it again. Received: "
                    f"{path}, where {problem}"
                )
            self._read[arm, seed] = row
        return self._read[arm, seed]

    def remove(self, arm: str, seed: int) -> None:
        """Removes a row, so that its run can be made again."""
        self._read.pop((arm, seed), None)
        Path(self._file(arm, seed)).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[Row]:
        """Yields the rows of the study's arms, ordered by seed and arm."""
        places = {arm: i for i, arm in enumerate(self._arms)}
        runs = [(seed, places[a], a) for a, seed in self.runs() if a in places]
        self._check_folder()
        for seed, _, arm in sorted(runs):
            yield self.read(arm, seed)

    def some(self) -> list[Row]:
        """Returns all rows; raises an error if there are none."""
        rows = list(self)
        if not rows:
            raise ValueError(
                "There must be rows: call `run` first. "
                f"Received: path={str(self.path)!r} with 0 rows"
            )
        return rows

    def _identity_of(self, arm: str) -> dict[str, Any]:
        return {**self.identity, "arm": {arm: self._arms[arm]}}

    def _arm_file(self, arm: str) -> tuple[Path, dict[str, Any]]:
        path = self.path / "arms" / f"{self._quoted[arm]}.json"
        return path, {arm: self._arms[arm]}

    def _file(self, arm: str, seed: int) -> str:
        # Making a `Path` takes as long as reading the file.
        return f"{self._folder}{os.sep}{seed}-{self._quoted[arm]}.json"

    def _claim(self, path: Path, content: dict[str, Any]) -> None:
        if not create(path, content):
            self._check_same(path, load(path), content)

    def _check_same(
        self, path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]
    ) -> None:
        differing = differences(found, expected, any_code=self._any_code)
        if differing:
            raise ValueError(
                "`path` must not hold another study: rows of other code, arms, "
                "models, configurations or environments do not mix. Give "
                "another `path`, or `any_code=True` if a change of the code "
                "does not matter to the results. Received: "
                f"path={str(self.path)!r}, where in {path.name} {differing}"
            )

    def _check_folder(self) -> None:
        """Checks what the folder holds, and adopts its environment."""
        study = self.path / "study.json"
        if study.exists():
            found = load(study)
            identity = {
                **self.identity,
                **{name: found.get(name) for name in _FOUND_OUT},
            }
            self._check_same(study, found, {"format": FORMAT, **identity})
            self.identity = identity
            for arm in self._arms:
                path, content = self._arm_file(arm)
                if path.exists():
                    self._check_same(path, load(path), content)
            return
        problem = ""
        # In this order, since another process may be making it.
        if os.path.lexists(self.path) and not self.path.is_dir():
            problem = "which is no folder"
        elif self.path.exists():
            names = filterfalse(DRAFT.fullmatch, os.listdir(self.path))
            if self.runs():
                problem = "with rows but no `study.json`: restore that file"
            elif not {"arms", "runs"}.issuperset(names):
                problem = "with other files"
        # Another process may be creating the study right now.
        if problem and not study.exists():
            raise ValueError(
                "`path` must be a study's folder, an empty one, or not exist "
                f"yet. Received: path={str(self.path)!r}, {problem}"
            )


def _problem(row: Row, arm: str, seed: int) -> str:
    """Says what makes a row impossible; empty if nothing does."""
    if (row.get("arm"), row.get("seed")) != (arm, seed):
        return f"the row is of {row.get('arm')!r}, seed {row.get('seed')!r}"
    missing = [key for key in _KEYS if key not in row]
    if missing:
        return f"{missing[0]} is missing"
    metrics, error = row["metrics"], row["error"]
    is_error = metrics is None and isinstance(error, str)
    is_result = error is None and isinstance(metrics, dict) and metrics
    if is_error or (
        is_result
        and all(type(value) in (int, float) for value in metrics.values())
        and all(map(math.isfinite, metrics.values()))
    ):
        return ""
    return f"metrics is {metrics!r} and error is {error!r}"
