"""Tables of a study in Markdown, and how their numbers are written."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from keras_parewire.studies.statistics import Columns, Comparison, summarize

Format = Callable[[float], str]


def summary_table(
    found: Columns, rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Returns the lines of a table of all arms."""
    metrics = list(next(iter(found.values())))
    lines = _header("arm", *metrics, "n", "failed")
    for arm, by_metric in found.items():
        runs = [row for row in rows if row["arm"] == arm]
        failed = sum(row["metrics"] is None for row in runs)
        cells = [_spread(by_metric[metric].values()) for metric in metrics]
        lines.append(table_row(arm, *cells, len(runs) - failed, failed))
    return lines


def comparison_table(
    comparisons: Iterable[Comparison],
    labels: Mapping[str, str] | None = None,
    number: Format | None = None,
) -> list[str]:
    """Returns the lines of a table of comparisons.

    Args:
        comparisons: As `compare` returns them.
        labels: Names for the metrics. Defaults to their names.
        number: Formats a difference without its sign. Defaults to four digits.
    """
    number = number or four_digits
    lines = _header(
        "comparison",
        "metric",
        "difference, 95 % interval",
        "p",
        "p (Holm)",
        "variance ratio, 95 % interval",
        "n",
    )
    for item in comparisons:
        ratio, p_values = item["ratio"], (item["p"], item["p_holm"])
        lines.append(
            table_row(
                f"{item['arm']} - {item['reference']}",
                (labels or {}).get(item["metric"], item["metric"]),
                signed(item["difference"], number)
                + _interval(item["interval"], number),
                *("" if p is None else f"{p:.2g}" for p in p_values),
                ""
                if ratio is None
                else f"{ratio:.2f}"
                + _interval(item["ratio_interval"], "{:.2f}".format),
                item["n"],
            )
        )
    return lines


def table_row(*cells: Any) -> str:
    """Returns one line of a table."""
    return (
        f"| {' | '.join(str(c).replace('|', chr(92) + '|') for c in cells)} |"
    )


def signed(value: float, number: Format) -> str:
    """Writes a number with its sign, also that of zero."""
    return ("-" if math.copysign(1, value) < 0 else "+") + number(abs(value))


def four_digits(value: float) -> str:
    """Writes a number with four significant digits."""
    return f"{value:.4g}"


def _header(*cells: str) -> list[str]:
    return [table_row(*cells), table_row(*["---"] * len(cells))]


def _spread(values: Iterable[float]) -> str:
    column = list(values)
    if not column:
        return ""
    found = summarize(column)
    if found["sd"] is None:
        return four_digits(found["mean"])
    return f"{four_digits(found['mean'])} ± {found['sd']:.2g}"


def _interval(pair: Sequence[float] | None, number: Format) -> str:
    if pair is None:
        return ""
    low, high = (("-" if x < 0 else "") + number(abs(x)) for x in pair)
    return f" [{low}, {high}]"
