"""Rows of the map in CSV files, which processes may be killed while writing."""

import csv
import fcntl
import io
import os


def read(path):
    """Returns the complete rows of a file, as dicts of strings.

    A last line without an end was cut off, and is left out.
    """
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    return list(csv.DictReader(whole.splitlines()))


def append(path, row):
    """Adds a row to a file that other processes may add to, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = file.read()
        # Cut off what a killed process has left.
        end = content.rfind(b"\n") + 1
        file.truncate(end)
        text = io.StringIO()
        writer = csv.DictWriter(text, row, lineterminator="\n")
        if not end:
            writer.writeheader()
        writer.writerow(row)
        file.write(text.getvalue().encode())
        file.flush()
        os.fsync(file.fileno())
