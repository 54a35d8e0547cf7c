"""verl's signature: its `compute_score` file works unchanged."""

from typing import Any


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One point when the last word is the answer. Of the dict, `score` counts."""
    words = solution_str.replace("}", " ").rstrip(". ").split()
    right = bool(words) and words[-1].split("{")[-1] == ground_truth
    return {"score": float(right), "data_source": data_source}
