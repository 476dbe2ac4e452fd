"""The rows of a study: a folder with one file for each run.

Each file is written under another name and then renamed, so that it exists
whole or not at all, on any system and with any number of processes. Its name
identifies its run, so that no run exists twice and a listing of the folder
shows which runs are missing.
"""

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from keras_parewire.studies.arms import quoted

FORMAT = 1
Run = tuple[str, int]
Row = dict[str, Any]


class Rows:
    """The rows of one study.

    Args:
        path: The study's folder, created when there is a row to write.
        arms: Descriptions of the arms by name.
        config: Description of the user's configuration.
    """

    def __init__(
        self, path: Any, arms: Mapping[str, Any], config: Mapping[str, Any]
    ) -> None:
        self.path: Path = Path(path)
        self._folder = self.path / "runs"
        self._identity: dict[str, Any] = {
            "format": FORMAT,
            "config": config,
            "environment": None,
            "arms": arms,
        }
        self._read: dict[str, Row] = {}
        self._check_folder()

    @classmethod
    def open(cls, path: Any) -> "Rows":
        """Returns the rows of a folder as they are, of whatever study."""
        known = _load(Path(path) / "study.json")
        rows = cls(path, known["arms"], known["config"])
        # Processes that add arms at once may leave one out of `study.json`.
        for (arm, _), name in rows._listing():
            if arm not in known["arms"]:
                row = _load(rows._folder / name)
                known["arms"][arm] = row["identity"]["arm"]
        return cls(path, known["arms"], known["config"])

    @property
    def config(self) -> dict[str, Any]:
        """The user's configuration."""
        config: dict[str, Any] = self._identity["config"]
        return config

    @property
    def environment(self) -> dict[str, str] | None:
        """The environment of the rows, once it is known."""
        environment: dict[str, str] | None = self._identity["environment"]
        return environment

    def begin(self, environment: Mapping[str, str]) -> None:
        """Creates the folder, or checks that it belongs to the same study."""
        identity = {**self._identity, "environment": dict(environment)}
        known = self._load_identity()
        arms = identity["arms"]
        if known is not None:
            self._check_same(known, identity)
            # Arms may be added to a study.
            arms = {**known["arms"], **arms}
        self._identity = identity
        self._folder.mkdir(parents=True, exist_ok=True)
        whole = {**identity, "arms": arms}
        if whole != known:
            _write(self.path / "study.json", whole)

    def runs(self) -> set[Run]:
        """Returns the runs that exist, by one listing of the folder."""
        return {run for run, _ in self._listing()}

    def add(self, row: Row) -> None:
        """Writes the row of one run."""
        name = _file_name(row["arm"], row["seed"])
        identity = self._identity
        row = {
            **row,
            "identity": {
                "arm": identity["arms"][row["arm"]],
                "config": identity["config"],
                "environment": identity["environment"],
            },
        }
        _write(self._folder / name, row)
        self._read[name] = row

    def __iter__(self) -> Iterator[Row]:
        """Yields the rows of the study's arms, ordered by seed and arm."""
        places = {arm: i for i, arm in enumerate(self._identity["arms"])}
        names = {
            (seed, places[arm]): name
            for (arm, seed), name in self._listing()
            if arm in places
        }
        self._check_folder()
        for key in sorted(names):
            yield self._load(names[key])

    def _listing(self) -> list[tuple[Run, str]]:
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        # Others are drafts that killed processes left, or the user's own.
        return [
            (_run(name), name)
            for name in names
            if re.fullmatch(r"[0-9]+-.+\.json", name)
        ]

    def _load(self, name: str) -> Row:
        if name not in self._read:
            path = self._folder / name
            row = _load(path)
            arm = self._identity["arms"].get(row["arm"])
            expected = {**self._identity, "arm": arm}
            found = row["identity"]
            expected = {key: expected[key] for key in found}
            differing = differences(found, expected)
            if differing:
                raise ValueError(
                    "A row must belong to the study that reads it. "
                    f"Received: {path}, where {differing}"
                )
            self._read[name] = row
        return self._read[name]

    def _load_identity(self) -> dict[str, Any] | None:
        path = self.path / "study.json"
        with contextlib.suppress(FileNotFoundError):
            known = _load(path)
            if known.get("format") == FORMAT:
                return known
            raise ValueError(
                f"`path` must hold a study of the format {FORMAT}. "
                f"Received: path={str(self.path)!r}, where the format is "
                f"{known.get('format')!r}"
            )
        return None

    def _check_folder(self) -> None:
        """Checks what the folder holds, and adopts its environment."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(
                "`path` must be a folder, or not exist yet. "
                f"Received: path={str(self.path)!r}, a file"
            )
        known = self._load_identity()
        if known is not None:
            expected = {**self._identity, "environment": known["environment"]}
            self._check_same(known, expected)
            self._identity = expected
        elif self.path.exists() and any(self.path.iterdir()):
            # Look again: another process may be creating the study right now.
            if self._load_identity() is None and not self._folder.exists():
                raise ValueError(
                    "`path` must be a study's folder, an empty one, or not "
                    f"exist yet. Received: path={str(self.path)!r}, which "
                    "holds other files"
                )

    def _check_same(
        self, known: Mapping[str, Any], identity: Mapping[str, Any]
    ) -> None:
        # An arm without rows, such as one that raised an error, may change.
        arms = {arm for arm, _ in self.runs()}
        common = known["arms"].keys() & identity["arms"].keys() & arms
        found, expected = (
            {**one, "arms": {arm: one["arms"][arm] for arm in sorted(common)}}
            for one in (known, identity)
        )
        differing = differences(found, expected)
        if differing:
            raise ValueError(
                "`path` must not hold another study: rows of different arms, "
                "configurations or environments do not mix. Received: "
                f"path={str(self.path)!r}, where {differing}"
            )


def differences(found: Any, expected: Any, name: str = "") -> str:
    """Says in words what differs; empty if nothing does."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        keys = [*found, *(key for key in expected if key not in found)]
        parts = [
            differences(
                found.get(key), expected.get(key), f"{name}.{key}".strip(".")
            )
            for key in keys
        ]
        return "; ".join(part for part in parts if part)
    if found == expected:
        return ""
    return f"{name} is {found!r}, not {expected!r}"


def _file_name(arm: str, seed: int) -> str:
    return f"{seed}-{quoted(arm)}.json"


def _run(name: str) -> Run:
    seed, _, arm = name.removesuffix(".json").partition("-")
    return unquote(arm), int(seed)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"A study's files must be JSON. Received: {path}, where {error}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"A study's files must hold a dict. Received: {path} with {content}"
        )
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=1, allow_nan=False))


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is never seen half written."""
    draft = path.with_name(f".{uuid.uuid4().hex}")
    try:
        # Line ends stay as they are, on any system.
        with draft.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _replace(draft: Path, path: Path) -> None:
    # Windows refuses while another process reads the file.
    for _ in range(50):
        with contextlib.suppress(PermissionError):
            return os.replace(draft, path)
        time.sleep(0.1)
    os.replace(draft, path)
