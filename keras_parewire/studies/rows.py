"""The rows of a study: a folder with one file for each run.

`runs/<seed>-<arm>.json` holds a row and all that it depends on, so that rows of
several folders can be put into one. A file exists whole or not at all, and only
that of a failure is replaced, on any system and with any number of processes.
"""

import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from keras_parewire.studies.identity import differences
from keras_parewire.studies.runs import Outcome

Run = tuple[str, int]
Row = dict[str, Any]

# The columns of a row besides its metrics and its environment.
COLUMNS = ("arm", "seed", "error", "seconds", "utc")

_NAME = re.compile(r"(0|[1-9][0-9]*)-(.+)\.json")
_KEYS = {*COLUMNS, "metrics", "identity"}
# What only a run finds out.
_FOUND_OUT = ("model", "environment")


class Rows:
    """The rows of one study.

    They depend on their arm, of which `arms` has descriptions, and on what
    `identity` holds. What `identify` says of the model comes with the first.
    """

    def __init__(
        self,
        path: Any,
        arms: Mapping[str, Any],
        identity: Mapping[str, Any],
        metric: str | None = None,
        any_code: bool = False,
    ) -> None:
        self.path: Path = Path(path).absolute()
        self._folder = self.path / "runs"
        self._arms, self._metric, self._any_code = arms, metric, any_code
        self._identity: dict[str, Any] = dict(identity)
        self._names: list[str] = []
        self._read: dict[Run, Row] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        list(self)

    def runs(self) -> set[Run]:
        """Returns the runs that exist, by one listing of the folder."""
        # Others are drafts, or the user's own.
        found = filter(None, map(_NAME.fullmatch, os.listdir(self._folder)))
        return {(unquote(match[2]), int(match[1])) for match in found}

    def add(self, arm: str, seed: int, outcome: Outcome) -> dict[str, Any]:
        """Writes the row of one run, and returns the one that counts.

        That is the row of another process, if one has made the same run. The
        row of a failure makes way for any.
        """
        known = {name: self._identity.get(name) for name in _FOUND_OUT}
        found_out = outcome.identity
        if found_out is not None and found_out != known:
            list(self)  # Another process may have begun.
            self._learn(found_out)
            self._check(self._identity, {**self._identity, **found_out}, "rows")
        metrics = outcome.metrics
        if metrics is not None:
            self._check_names([*metrics])
            # The first one decides, so their order is that of the first row.
            metrics = {name: metrics[name] for name in self._names}
        path = Path(self._file(arm, seed))
        failed = path.exists() and self.read(arm, seed)["error"] is not None
        row = {
            "arm": arm,
            "seed": seed,
            "metrics": metrics,
            "error": outcome.error,
            "seconds": outcome.seconds,
            "utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "identity": self._identity_of(arm),
        }
        write(path, row, replace=failed)
        return flat(self.read(arm, seed), self._names)

    def read(self, arm: str, seed: int) -> Row:
        """Returns the row of a run that exists."""
        if (arm, seed) not in self._read:
            path = self._file(arm, seed)
            try:
                with open(path, "rb") as file:
                    row: Row = json.load(file)
                if row.keys() != _KEYS:
                    raise ValueError(f"its keys are {list(row)}")
                if [row["arm"], row["seed"]] != [arm, seed]:
                    one = f"{row['arm']!r}, seed {row['seed']!r}"
                    raise ValueError(f"the row is of {one}")
                self._learn(row["identity"])
            except (AttributeError, ValueError) as error:
                raise ValueError(
                    "A row must be what a run of a study wrote; if you delete "
                    f"its file, `run` makes it again. Received: {path}, where "
                    f"{error}"
                ) from error
            self._check(
                row["identity"], self._identity_of(arm), Path(path).name
            )
            if row["error"] is not None:
                return row  # Another process may replace it.
            self._read[arm, seed] = row
        return self._read[arm, seed]

    def __iter__(self) -> Iterator[Row]:
        """Yields the rows of the study's arms, ordered by seed and arm."""
        places = {arm: i for i, arm in enumerate(self._arms)}
        runs = [(seed, places[a], a) for a, seed in self.runs() if a in places]
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
        return {**self._identity, "arm": self._arms[arm]}

    def _file(self, arm: str, seed: int) -> str:
        # Making a `Path` takes as long as reading the file.
        return f"{self._folder}{os.sep}{seed}-{quote(arm, safe='')}.json"

    def _learn(self, found_out: Mapping[str, Any]) -> None:
        """Takes over what a run has found out, unless others came before."""
        for name in _FOUND_OUT:
            self._identity.setdefault(name, found_out.get(name))

    def _check_names(self, names: list[str]) -> None:
        """Checks the names that `train` returned against earlier ones."""
        own = [*COLUMNS, *self._identity["environment"]]
        if self._metric not in (None, *names) or {*names} & {*own}:
            raise ValueError(
                f"`train` must return `metric`, and none of {', '.join(own)}. "
                f"Received: metric={self._metric!r}, and {names} from `train`"
            )
        if not self._names:
            earlier = (row["metrics"] for row in self)
            self._names = list(next(filter(None, earlier), names))
        if {*names} != {*self._names}:
            raise ValueError(
                "`train` must return the same names for every run. "
                f"Received: {names}, but {self._names} before"
            )

    def _check(
        self, found: Mapping[str, Any], own: Mapping[str, Any], where: str
    ) -> None:
        differing = differences(found, own, any_code=self._any_code)
        if differing:
            code = ", or `any_code=True` if the change does not matter"
            raise ValueError(
                "`path` must not hold another study: rows of other code, arms, "
                "models, configurations or environments do not mix. Give "
                f"another `path`{code * ('the code of ' in differing)}. "
                f"Received: path={str(self.path)!r}, where in {where} "
                f"{differing}"
            )


def flat(row: Row, names: Iterable[str]) -> dict[str, Any]:
    """Returns a row as `Study.rows` lists it, with metrics of these names."""
    metrics: Mapping[str, float] = row["metrics"] or {}
    return {
        "arm": row["arm"],
        "seed": row["seed"],
        **{name: metrics.get(name) for name in names},
        **{key: row[key] for key in COLUMNS[2:]},
        **row["identity"]["environment"],
    }


def write(path: Path, content: Mapping[str, Any], replace: bool) -> None:
    """Writes a file, in the place of another one only with `replace`."""
    text = json.dumps(content, allow_nan=False)
    draft = path.with_name(f".{uuid.uuid4().hex}")
    try:
        # Line ends stay as they are, on any system.
        with draft.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except OSError:
            # There is a file, or the file system, such as FAT, has no links.
            if replace or not path.exists():
                draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
