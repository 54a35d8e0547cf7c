"""What a comparison says: rows of a table, some of which are the figures that `results.json` is read for."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Example: ``Row("rollout", "ours / raw vLLM", 0.9, "", key="rollout_share_of_raw_vllm", target=">= 0.85")``
    """

    comparison: str
    what: str
    value: float
    unit: str = ""
    """Empty for a ratio."""
    key: str | None = None
    """Its name in `results.json`, for the figures that others read."""
    target: str = ""
    """`>= x` or `<= x`."""
    shown: bool = False
    """In the table of docs/speed.md, which has the figures that something follows from."""

    @property
    def reached(self) -> bool | None:
        """None where there is no target."""
        if not self.target:
            return None
        sign, bound = self.target.split()
        return self.value >= float(bound) if sign == ">=" else self.value <= float(bound)


def paired(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios of neighbours: what slows the machine for a while slows both of a pair."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def render(rows: Sequence[Row]) -> str:
    """A table in Markdown."""
    lines = [("comparison", "figure", "value", "target", "")]
    for row in rows:
        verdict = {None: "", True: "reached", False: "**missed**"}[row.reached]
        lines.append((row.comparison, row.what, _number(row), row.target, verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def _number(row: Row) -> str:
    digits = 0 if abs(row.value) >= 1000 else 1 if abs(row.value) >= 100 else 2 if abs(row.value) >= 10 else 3
    return f"{row.value:,.{digits}f} {row.unit}".strip()
