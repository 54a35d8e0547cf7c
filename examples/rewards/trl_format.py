"""TRL's signature: lists of prompts and completions, and the data set's columns by name."""

import re
from typing import Any


def has_tags(prompts: list[str], completions: list[str], **columns: Any) -> list[float | None]:
    """Half a point for an answer in tags."""
    return [0.5 if re.search(r"<answer>.+?</answer>", c, re.DOTALL) else 0.0 for c in completions]


def same_text(completions: list[list[dict[str, str]]], answer: list[str], **columns: Any) -> list[float]:
    """Completions annotated as messages come as messages."""
    return [float(c[0]["content"].strip().endswith(a)) for c, a in zip(completions, answer, strict=True)]
