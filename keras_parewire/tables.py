"""Tables in Markdown, which a notebook renders."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar

Row = TypeVar("Row")


@dataclasses.dataclass(frozen=True, repr=False)
class WeightTable(Generic[Row]):
    """What a function has found out about each weight of a model.

    Attributes:
        rows: Rows whose attribute `skipped` is None, or the reason why nothing
            else is known of a weight.
    """

    # The attributes of a row that have a column, and a note on them.
    _columns: ClassVar[str]
    _note: ClassVar[str]

    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a dict of plain values that JSON can hold."""
        return dataclasses.asdict(self)

    def __repr__(self) -> str:
        done, skipped = self._done_and_skipped()
        return (
            f"<{type(self).__name__} of {len(done)} kernels, "
            f"{skipped.total()} skipped; print it for the table>"
        )

    def __str__(self) -> str:
        done, skipped = self._done_and_skipped()
        table = [self._columns.split()]
        table += [[_text(getattr(row, x)) for x in table[0]] for row in done]
        notes = [f"{len(done)} kernels; {self._note}"]
        if skipped:
            reasons = (f"{count} {why}" for why, count in skipped.items())
            notes.append(f"skipped: {', '.join(reasons)}")
        lines = [*aligned(table), ""] if done else []
        return "\n".join([*lines, *(f"- {note}" for note in notes)])

    def _repr_markdown_(self) -> str:
        return str(self)

    def _done_and_skipped(self) -> tuple[list[Any], Counter[str]]:
        rows: list[Any] = list(self.rows)
        done = [row for row in rows if row.skipped is None]
        return done, Counter(row.skipped for row in rows if row.skipped)


def aligned(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Returns the lines of a table in Markdown whose columns line up.

    Columns without a value are left out. The first row is the header.
    """
    texts = [[one_line(cell).replace("|", "\\|") for cell in r] for r in rows]
    columns = [column for column in zip(*texts, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        for line in zip(*columns, strict=True)
    ]
    lines.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(line)} |" for line in lines]


def one_line(cell: Any) -> str:
    """Returns the text of a cell without line breaks."""
    # The message of an exception may have several lines.
    return " ".join(str(cell).split())


def significant(value: float, unit: float, sign: str = "") -> str:
    """Rounds a number to the second significant digit of a unit."""
    if not 1e-5 < unit < 1e5:  # Or it is no number.
        return f"{value:{sign}.2g}"
    places = 1 - math.floor(math.log10(unit))
    return f"{round(value, places):{sign}.{max(places, 0)}f}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)
