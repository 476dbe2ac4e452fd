"""The rows of a study: a CSV file that survives being killed at any moment."""

import csv
import io
import os
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: only one process at a time may add rows.
    fcntl = None

KEY = ("model", "arm", "seed")
COLUMNS = (
    *KEY,
    "base",
    "draw",
    "epochs",
    "epoch_1_accuracy",
    "epoch_1_val_accuracy",
    "val_accuracy",
    "test_accuracy",
    "strength_variance",
    "strength_kurtosis",
    "losses",
    "accuracies",
    "val_accuracies",
    "config",
    "backend",
    "device",
    "dtype",
    "keras",
    "backend_version",
    "numpy",
    "keras_parewire",
    "threads",
    "flags",
    "seconds",
    "utc",
)
# Rows of the first version of the study lack these.
ADDED = ("threads", "flags")
FIRST_COLUMNS = tuple(column for column in COLUMNS if column not in ADDED)


def read(path):
    """Returns the complete rows of a file, or none if there is no file."""
    path = Path(path)
    if not path.exists():
        return []
    return _parse(path.read_bytes(), COLUMNS, FIRST_COLUMNS)


def key(row):
    """Returns what may be in a file only once."""
    return tuple(str(row[column]) for column in KEY)


def append(path, row):
    """Adds a row, whole or not at all, unless another process already has.

    Returns:
        Whether the row was added.
    """
    _create(path)
    with _locked(path) as file:
        content = _repair(file)
        if key(row) in map(key, _parse(content, COLUMNS)):
            return False
        _write(file, _line(row[column] for column in COLUMNS))
        return True


def write_atomically(path, text):
    """Writes a file that is never seen half written."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def _create(path):
    """Creates the file with its header; a link never replaces another file."""
    path = Path(path)
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(_line(COLUMNS))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


@contextmanager
def _locked(path):
    with open(path, "r+b", buffering=0) as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _repair(file):
    """Cuts off what a killed process left of its last row."""
    content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    file.truncate(len(whole))
    return whole


def _parse(content, *allowed):
    # No field holds a line break, so a line without its end is a torn row.
    whole = content[: content.rfind(b"\n") + 1].decode()
    rows = csv.DictReader(io.StringIO(whole))
    columns = tuple(rows.fieldnames or COLUMNS)
    if columns not in allowed:
        raise ValueError(f"The columns must be {COLUMNS}. Received: {columns}")
    return list(rows)


def _line(fields):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()


def _write(file, line):
    file.seek(0, os.SEEK_END)
    if file.write(line) != len(line):
        raise OSError("The row was cut short; the next call drops its rest.")
    os.fsync(file.fileno())
