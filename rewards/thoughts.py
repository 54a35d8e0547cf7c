"""The part of a completion that is said to the reader: thoughts in tags and comments are not."""

import re

_KIND = (
    r"(?:\w+[_-])?(?:think|thinking|thoughts?|reasoning|analysis|reflection|scratch(?:pad)?|monologue?|draft|comment|"
    r"deliberation|brainstorm(?:ing)?|rough_work|working|cot|chain_of_thought|planning|plan|internal|inner|"
    r"hidden|private|secret|notes?|aside|musings?|pondering|self_talk|meta)(?:[_-]\w+)?"
)
_OPEN = re.compile(
    rf"<\|?(?:begin_of_|seed:)?{_KIND}\s*\|?>|\[{_KIND}\]|◁{_KIND}▷|<\|channel\|>(?:analysis|commentary)", re.IGNORECASE
)
_CLOSE = re.compile(
    rf"<(?:/\|?|\|/|\|?end_of_)(?:seed:)?{_KIND}\s*\|?>|\[/{_KIND}\]|◁/{_KIND}▷|<\|channel\|>final", re.IGNORECASE
)
_COMMENT = re.compile(
    r"<!--.*?(?:-->|\Z)|^[ \t]*%[^\n]*$|\\begin\{comment\}.*?(?:\\end\{comment\}|\Z)|\\iffalse\b.*?(?:\\fi\b|\Z)"
    r"|\\h?phantom\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|/\*.*?(?:\*/|\Z)|^\[//\]: # [^\n]*$|<script\b.*?(?:</script>|\Z)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)


def visible(text: str) -> str:
    """The text after the last closed thought, without comments. A thought left open hides everything after its tag."""
    text = text[max((m.end() for m in _CLOSE.finditer(text)), default=0) :]
    opened = _OPEN.search(text)
    return _COMMENT.sub("", text if opened is None else text[: opened.start()])
