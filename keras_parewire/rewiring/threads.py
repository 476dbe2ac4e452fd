"""How many threads the rewiring may use on the host."""

import os

THREADS_VARIABLE = "KERAS_PAREWIRE_NUM_THREADS"


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    # A container or `taskset` may allow fewer cores than there are; not every
    # operating system reports that.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Asked once, since PyTorch's compiler cannot trace the question.
_DEFAULT = usable_cores()


def thread_count() -> int:
    """Returns how many threads may work at once, the calling one included.

    The environment variable `KERAS_PAREWIRE_NUM_THREADS` says how many.
    Without it, there is one for each core that this process may use. The number
    never changes a result.

    Raises:
        ValueError: If the variable is not a positive integer.
    """
    text = os.environ.get(THREADS_VARIABLE)
    if text is None:
        return _DEFAULT
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"The environment variable {THREADS_VARIABLE} must be a positive "
            f"integer. Received: {THREADS_VARIABLE}={text!r}"
        )
    return int(text)
