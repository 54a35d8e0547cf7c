"""A figure of matplotlib's as a file."""

import io
from pathlib import Path
from typing import Any

from lora.atomic_write import write_atomic


def write_figure(figure: Any, file: Path) -> None:
    """Write it as a PNG, whole: where there is no room for it, the one that was there before stays."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_atomic(file, content.getvalue())
