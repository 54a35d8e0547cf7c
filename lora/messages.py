"""Text for messages: on one line, and not too long."""


def single_line(text: object, most: int | None = None) -> str:
    """Return the text with single spaces in place of all white space, cut to `most` letters."""
    return " ".join(str(text).split())[:most]


def shortened(text: str, most: int, end: str = "...") -> str:
    """Return the text, or its beginning and `end` where it has more than `most` letters."""
    return text if len(text) <= most else text[: most - len(end)] + end


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; its type's name where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
