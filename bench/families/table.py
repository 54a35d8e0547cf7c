"""The measured families as a table of docs/models.md."""

from collections.abc import Mapping
from typing import Any

from lora.config import LoraConfig

BOUNDS = (1e-5, 1e-4, 1e-3)
"""Differences are told by the least of these that they are below."""
BEGIN, END = "<!-- families: python -m bench.families -->\n", "<!-- end of families -->\n"
HEAD = """\
| family | default `lora.targets` | packs | packed = alone | sampled = scored | gradients | vLLM on a CPU |
|---|---|---|---|---|---|---|
"""

Results = Mapping[str, Mapping[str, Any]]
"""By family: what `measure` and `serve` returned, or the line of a refusal."""


def table(results: Results) -> str:
    """Return the table, a row for each family."""
    return HEAD + "".join(_row(name, result) for name, result in results.items())


def put_into(page: str, results: Results) -> str:
    """Return a page with the table between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert all((begin, end)), "the page has lost the table's marks"
    return f"{before}{BEGIN}{table(results)}{END}{after}"


def bound(difference: float) -> str:
    """Return the least bound that a difference is within, or the difference."""
    return next((f"{least:.0e}".replace("e-0", "e-") for least in BOUNDS if difference <= least), f"{difference:.1e}")


def _row(name: str, result: Mapping[str, Any]) -> str:
    trained = result["trained"]
    if "refused" in trained:
        return f"| {name} | refused: {trained['refused']} | | | | | |\n"
    cells = [
        name,
        _targets(trained),
        "yes" if trained["packs"] else "no",
        *(bound(trained[f"{what}_difference"]) for what in ("packed", "sampled", "gradient")),
        _served(result.get("vllm")),
    ]
    return f"| {' | '.join(cells)} |\n"


def _targets(trained: Mapping[str, Any]) -> str:
    if trained["default_targets"]:
        rest = [f"`{name}`" for name in trained["targets"] if name not in LoraConfig().targets]
        return f'fit; "all-linear" adds {", ".join(rest)}' if rest else "fit"
    return 'use "all-linear", and exclude the experts' if trained["excluded"] else 'use "all-linear"'


def _reason(error: str) -> str:
    """Return what vLLM found wrong, without what pydantic and we say around it."""
    for begins in ("Assertion failed, ", "Value error, ", "Error: "):
        error = error.rpartition(begins)[2]
    for follows in (" (its memory is", " [type=", ". Please check", "; docs/models.md"):
        error = error.partition(follows)[0]
    return error.rstrip(".")


def _served(served: Mapping[str, Any] | None) -> str:
    """Return what was seen of vLLM."""
    if served is None:
        return "not tried"
    if "error" in served:
        return f"not served: {_reason(served['error'])}"
    if served["fault"] is not None:
        return f"not served: the liveness check finds that it samples {served['fault']}"
    return bound(max(served["difference"], served["sampled_difference"]))
