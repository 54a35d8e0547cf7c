"""Takes normalised answers apart outside of their brackets."""

OPEN, CLOSE = "([{⟨", ")]}⟩"
RELATIONS = "=<>≤≥≠≈"


def split(text: str, separators: str) -> list[str]:
    """The pieces between separators that stand outside every bracket, without the spaces at their ends."""
    pieces, start = list[str](), 0
    for at, (character, depth) in enumerate(zip(text, depths(text), strict=True)):
        if depth == 0 and character in separators:
            pieces.append(text[start:at].strip())
            start = at + 1
    return [*pieces, text[start:].strip()]


def items(text: str) -> list[str]:
    """The pieces between commas and semicolons."""
    return [p for each in split(text, ";") for p in split(each, ",")]


def marks(text: str) -> list[str]:
    """The relation signs outside brackets, in order."""
    return [
        character for character, depth in zip(text, depths(text), strict=True) if depth == 0 and character in RELATIONS
    ]


def closes(text: str) -> bool:
    """Return True if the first bracket is closed by the last character."""
    depth = depths(text)
    return 0 in depth and depth.index(0) == len(text) - 1


def depths(text: str) -> list[int]:
    """For each character, the brackets open behind it."""
    depth, all_depths = 0, list[int]()
    for character in text:
        depth += (character in OPEN) - (character in CLOSE)
        all_depths.append(depth)
    return all_depths
