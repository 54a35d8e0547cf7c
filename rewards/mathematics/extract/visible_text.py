"""The part of a completion that is said to the reader: thoughts in tags, comments and what is struck out are not."""

import re

_KIND = (
    r"(?:\w+[ _-])?(?:think|thinking|thoughts?|reasoning|analysis|reflection|scratch(?:pad)?|monolog(?:ue)?|draft|"
    r"comment|"
    r"deliberation|brainstorm(?:ing)?|rough_work|working|cot|chain[_-]of[_-]thought|planning|plan|internal|inner|"
    r"hidden|private|secret|notes?|aside|musings?|ponder(?:ing)?|self[_-]talk|meta|reason|rationale|consider(?:ation)?|"
    r"sketch|ideas?|exploration|speculation|guess(?:es)?|contemplat(?:e|ion)|trace|log|debug)(?:[ _-]\w+)?"
)
_OPEN = re.compile(
    rf"<[|｜]?(?:begin_of_|start_of_|seed:)?{_KIND}\s*[|｜]?>|\[{_KIND}\]|◁{_KIND}▷|<\|channel\|>(?:analysis|commentary)",
    re.IGNORECASE,
)
_CLOSE = re.compile(
    rf"<(?:/[|｜]?|[|｜]/|[|｜]?end_of_)(?:seed:)?{_KIND}\s*[|｜]?>|\[/{_KIND}\]|◁/{_KIND}▷|<\|channel\|>final",
    re.IGNORECASE,
)
_FLAGS = re.DOTALL | re.MULTILINE | re.IGNORECASE
_HIDDEN = tuple(
    (mark, re.compile(pattern, _FLAGS))
    for mark, pattern in (
        ("<!--", r"<!--.*?(?:-->|\Z)"),
        ("%", r"^[ \t]*%[^\n]*$"),
        ("/", r"/\*.*?(?:\*/|\Z)|^[ \t]*//[^\n]*$|^\[//\]: # [^\n]*$"),
        ("\\begin{comment}", r"\\begin\{comment\}.*?(?:\\end\{comment\}|\Z)"),
        ("\\iffalse", r"\\iffalse\b.*?(?:\\fi\b|\Z)"),
        ("phantom", r"\\[hv]?phantom\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}"),
        ("</", r"<(del|s|strike)>.{0,4000}?</\1>|<(script|style|template|noscript)\b.*?(?:</\2>|\Z)"),
        (
            "<",
            r"<script\b.*|<(\w+)\b[^<>\n]{0,80}\b(?:hidden|display: ?none|"
            r"color ?[:=] ?[\"']?(?:white|#fff\w{0,5}|transparent)|font-size: ?0|opacity: ?0)"
            r"[^<>\n]{0,80}>.*?(?:</\1>|\Z)",
        ),
        ("~~", r"(?<![\w\\}~])~~(?=\S)[^~\n]{1,300}~~(?![\w~])"),
        ("\\begin{verbatim}", r"\\begin\{verbatim\}.*?(?:\\end\{verbatim\}|\Z)"),
        ("\\verb", r"\\verb\*?([|!+])[^\n]{0,1000}?\1"),
        (
            "\\boxed",
            r"\\(?:[xb]?cancel|sout|st|"
            r"(?:text)?color\{white\})\s*\{[^{}\n]{0,200}\\boxed\{[^{}\n]{0,200}\}[^{}\n]{0,200}\}",
        ),
    )
)
"""Comments, and what is struck out or not shown: each pattern with a text that it does not match without."""
_INLINE = re.compile(r"<(b|i|u|em|strong|span)>([^<>\n]{0,300})</\1>", re.IGNORECASE)
"""Formatting of a few words."""
_STOP = re.compile(
    r"<[|｜](?:im_end|endoftext|eot_id|end_of_text|end▁of▁sentence)[|｜]>|<[|｜]im_start[|｜]>(?=\s*(?:user|system)\b)"
    r"|<[|｜]start_header_id[|｜]>(?=\s*(?:user|system)\b)|<end_of_turn>"
)
"""Tokens that end a model's turn, where its text goes on."""


def visible(text: str) -> str:
    """The text of the model's own turn after the last closed thought, without comments. A thought left open hides
    everything after its tag."""
    if "<" in text and (stop := _STOP.search(text)) is not None and text[: stop.start()].strip():
        text = text[: stop.start()]
    text = text[max((m.end() for m in _CLOSE.finditer(text)), default=0) :]
    opened = _OPEN.search(text)
    text = text if opened is None else text[: opened.start()]
    for mark, pattern in _HIDDEN:
        if mark in text:
            text = pattern.sub("", text)
    return _INLINE.sub(r"\2", text) if "</" in text else text
