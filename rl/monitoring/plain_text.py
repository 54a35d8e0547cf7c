"""Text of unknown origin on a terminal: no markup of rich's in it means anything, and no control character acts."""

from rich.text import Text


def plain(text: str) -> Text:
    """Make a text safe for tables, titles and lines that rich prints. Example: ``table.add_row(plain(job.name))``"""
    return Text("".join(letter if letter.isprintable() else "�" for letter in text))
