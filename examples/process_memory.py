"""Memory of this process, which only Linux reports in full.

`ru_maxrss` would be portable, but a new process inherits its parent's.
"""

from pathlib import Path

_STATUS = Path("/proc/self/status")


class Peak:
    """Measures how far memory rises above what is in use now."""

    def __init__(self):
        self._before = resident()

    def above(self):
        """Returns the rise in bytes, or None on systems other than Linux."""
        if self._before is None:
            return None
        return _bytes("VmHWM") - self._before


def resident():
    """Returns the memory in use in bytes, or None as above."""
    return _bytes("VmRSS")


def _bytes(field):
    if not _STATUS.exists():
        return None
    lines = _STATUS.read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields[field].split()[0]) * 1024
