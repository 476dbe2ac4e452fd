"""The table that the whole-model functions return."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ReportRow:
    """One weight of a model, see `RewireReport`."""

    path: str
    shape: tuple[int, ...] | None
    inputs: int | None = None
    outputs: int | None = None
    groups: int | None = None
    before: float | None = None
    after: float | None = None
    skipped: str | None = None
    remark: str | None = None


@dataclass(frozen=True, repr=False)
class RewireReport:
    """What was done to each weight of a model; prints as a table.

    Iterating over it, or indexing it, gives one row for each weight of the
    model, then one for each layer in it that has not been built:

    - `path`: the weight's path in the model, or the layer's;
    - `shape`: its shape, or None for a layer;
    - `inputs`, `outputs`: the numbers of neurons on the two sides of the
        kernel, or of one of its groups;
    - `groups`: how many independent matrices the kernel holds, usually 1;
    - `before`, `after`: the strength variance, as `strength_variance` computes
        it, averaged over the groups; equal if nothing was rewired;
    - `skipped`: why the weight was left alone, or None. The row of such a
        weight has only a path and a shape;
    - `remark`: None, or how the rewiring fell short: the strength variance
        rose, or did not fall by a factor of 2.

    Example:

    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> report = rewire_model(model, seed=0)
    >>> report[0].inputs, report[0].outputs, report[0].skipped
    (64, 32, None)
    >>> report[0].after < report[0].before
    True
    >>> report[1].skipped
    'bias'

    Attributes:
        rows: The rows, as a tuple.
        seed: The seed that reproduces the result, or None if nothing was drawn.
    """

    rows: tuple[ReportRow, ...]
    seed: int | None

    def __iter__(self) -> Iterator[ReportRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ReportRow:
        return self.rows[index]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a dict of plain values that JSON can hold."""
        return {"seed": self.seed, "rows": [asdict(row) for row in self.rows]}

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        done = [row for row in self.rows if row.skipped is None]
        lines = _aligned([_HEADER, *map(_cells, done)])
        lines.append(f"{len(done)} kernels; before, after: strength variance")
        for remark, count in Counter(
            row.remark for row in done if row.remark
        ).items():
            lines.append(f"* {count}: it {remark}")
        reasons = Counter(row.skipped for row in self.rows if row.skipped)
        if reasons:
            skipped = ", ".join(f"{n} {why}" for why, n in reasons.items())
            lines.append(f"skipped: {skipped}")
        return "\n".join(lines)


_HEADER = (
    "kernel",
    "shape",
    "inputs",
    "outputs",
    "groups",
    "before",
    "after",
    "",
)


def _cells(row: ReportRow) -> tuple[str, ...]:
    return (
        row.path,
        str(row.shape).replace(" ", ""),
        str(row.inputs),
        str(row.outputs),
        str(row.groups),
        f"{row.before:.3g}",
        f"{row.after:.3g}",
        "*" if row.remark else "",
    )


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Joins the cells of each row: words aligned left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(
                zip(cells, widths, strict=True)
            )
        ).rstrip()
        for cells in table
    ]
