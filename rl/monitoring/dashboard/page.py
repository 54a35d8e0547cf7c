"""The page's parts: our own HTML, style and script beside this file, and plotly's script from its package."""

from functools import cache
from importlib.resources import files


@cache
def page(name: str) -> str:
    """Return one of the page's files."""
    return (files("rl.monitoring.dashboard") / name).read_text(encoding="utf-8")


@cache
def plotly_script() -> str:
    """Return plotly.js, whole, as the Python package carries it."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()
