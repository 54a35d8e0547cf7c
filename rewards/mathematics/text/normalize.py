"""One spelling for each mathematical sign, so that the parser has few cases. Nothing here decides what is equal.

A normalised answer uses single characters for operators (``*``, ``/``, ``^``, ``±``, ``≤``, ``∪``, ``∞``, ``°`` ...),
has no delimiters, sizes or spacing commands, and marks words as ``\\text{...}``. Every replacement is a linear scan.
"""

import re
import unicodedata
from functools import lru_cache

MAX_ANSWER_CHARS = 1_000
"""Longer answers are not looked at, except whole numbers of up to `MAX_DIGITS`."""
MAX_DIGITS = 4_000


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COMMANDS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "pm": "±", "mp": "∓", "infty": "∞", "pi": "π", "circ": "°",
    "degree": "°", "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥", "lt": "<", "gt": ">",
    "ne": "≠", "neq": "≠", "approx": "≈", "simeq": "≈", "sim": "≈", "cup": "∪", "cap": "∩", "in": "∈", "notin": "∉",
    "ldots": "…", "dots": "…", "cdots": "…", "vdots": "…", "dotsc": "…", "dotsb": "…", "lbrace": "\\{", "rbrace": "\\}",
    "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "lbrack": "[", "rbrack": "]", "colon": ":", "land": " and ",
    "wedge": " and ", "lor": " or ", "vee": " or ", "dfrac": "\\frac", "tfrac": "\\frac", "cfrac": "\\frac",
    "dbinom": "\\binom", "tbinom": "\\binom", "emptyset": "∅", "oslash": "∅", "equiv": "≡", "bigcup": "∪",
    "forall": "∀", "varnothing": "∅", "setminus": "∖", "backslash": "∖",
    "quad": " ", "qquad": " ", "space": " ", "left": "", "right": "", "big": "", "Big": "", "bigl": "", "bigr": "",
    "Bigl": "", "Bigr": "", "bigg": "", "Bigg": "", "biggl": "", "biggr": "", "middle": "", "displaystyle": "",
    "textstyle": "", "scriptstyle": "", "limits": "", "nolimits": "", "boldsymbol": "", "mathbf": "", "mathit": "",
    "rm": "", "bf": "", "it": "", "hfill": "", "thinspace": " ", "euro": "€", "pounds": "£", "imath": "i",
    "large": "", "Large": "", "LARGE": "", "huge": "", "small": "", "underline": "", "checkmark": "",
    "overrightarrow": "\\vec", "percent": "%", "nicefrac": "\\frac", "sfrac": "\\frac", "langle": "⟨", "rangle": "⟩",
}  # fmt: skip
CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*",
    "•": "*",
    "÷": "/", "∕": "/", "⁄": "/", "≤": "≤", "≦": "≤", "⩽": "≤", "≥": "≥", "≧": "≥", "⩾": "≥", "≃": "≈",
    "≅": "≈", "∼": "≈", "º": "°", "˚": "°", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"', "Π": "\\Pi ", "𝜋": "π",
    "½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4", "⅕": " 1/5", "⅖": " 2/5", "⅗": " 3/5", "⅘": " 4/5",
    "⅙": " 1/6", "⅚": " 5/6", "⅛": " 1/8", "⅜": " 3/8", "⅝": " 5/8", "⅞": " 7/8", "\u00a0": " ", "\u202f": " ",
    "\u2009": " ", "\u200b": "", "\u2060": "", "\ufeff": "", "\u2061": "", "\u2062": "*", "∅": "∅", "…": "…", "⋯": "…",
    "ℝ": "\\mathbb {R}", "∨": " or ", "∧": " and ",
    "、": ",", "或": " or ", "＞": ">", "＜": "<", "〈": "⟨", "〉": "⟩",
    "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "δ": "\\delta ",
    "ε": "\\epsilon ", "θ": "\\theta ", "λ": "\\lambda ", "μ": "\\mu ", "ρ": "\\rho ",
    "σ": "\\sigma ", "τ": "\\tau ", "φ": "\\phi ", "ω": "\\omega ",
}  # fmt: skip
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
FUNCTIONS = words(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch ln log lg "
    "exp sqrt gcd lcm det max min lim deg arg dim ker mod"
)
KNOWN_WORDS = FUNCTIONS | {"pi", "inf", "infty", "infinity", "abs", "cis"}

_TRANSLATE = str.maketrans(CHARACTERS)
_SUPERSCRIPT = re.compile(f"[{''.join(SUPERSCRIPTS)}]+")
_ROOT_SIGN = re.compile(r"√\s*(\d+(?:\.\d+)?)")
_SUBSCRIPT = re.compile(f"[{''.join(SUBSCRIPTS)}]+")
_COMMAND = re.compile(r"\\([A-Za-z]+)\s*")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|textup|textnormal|textsf|texttt|mbox|hbox|emph)\s*\{([^{}]*)\}")
_ROMAN = re.compile(r"\\(?:mathrm|mathsf|mathtt|mathit|mathbf|operatorname\*?)\s*\{\s*([^{}]*?)\s*\}")
_BELOW = re.compile(r"\\(?:mathrm|text)\s*\{ ?[A-Za-z]{1,4} ?\} ?/ ?$")
_COLOR = re.compile(r"\\(?:color\s*\{\s*(?!white)\w{1,20}\s*\}|textcolor\s*\{\s*(?!white)\w{1,20}\s*\}(?=\s*\{))")
"""A colour, but for the one that cannot be seen."""
_UPRIGHT_UNIT = re.compile(r"[A-Za-z]{1,4}\s*/\s*[A-Za-z]{1,4}")
_NOT = re.compile(r"\\(?:not|cancel)\s*\{?\s*(=|\\in(?![A-Za-z]))\s*\}?")
_TEXT_POWER = re.compile(r"(\\text\{[^{}]*[A-Za-z]) ?\^ ?(?:\{ ?([23]) ?\}|([23])) ?\}")
_TEXT_SIGN = re.compile(r"\\text\{\s*(:|\d+)\s*\}(?=\s*[\d_])")
_BOXED = re.compile(r"^\\(?:boxed|fbox)\s*\{(.*)\}$", re.DOTALL)
_SPACING = re.compile(r"(?<!\\)\\[,;: >]|~")
_SEPARATOR = re.compile(r"(?<=\d)(?: ?\{ ?, ?\}|,\\!|\\,)\s*(?=\d{3}(?!\d))")
_ADJACENT = re.compile(r"(\\text\{[^{}]*)\} ?/ ?\\text\{\s*")
_METRES = re.compile(r"(?<=\d) ?(mm|cm|dm|km|m|ft)([²³])")
_COUNTER = re.compile(r"(?<=\d)\s?[（(]([\u4e00-\u9fff]{1,4})[)）]")
"""25（个）, as pupils write."""
_THEREFORE = re.compile(r"^\s*\\(?:therefore|implies|Rightarrow|Longrightarrow|iff)(?![A-Za-z])")
_COLON = re.compile(r"(?<=\d)\{:\}(?=\d)")
_UNIT_VECTOR = re.compile(
    r"\\(?:hat|widehat|vec|bar|overrightarrow)\s*\{?\s*(?:\\([ijk])math(?![a-z])|([ijk])(?![A-Za-z]))\s*\}?"
)
_BETWEEN_CIRCLES = re.compile(r"[\s,;，、；]|\\text\s*\{\s*(?:and)?\s*\}|\band\b")
_ENDLESS = re.compile(r"(?<![\d.,])(\d{0,9}\.\d{0,9}?)(?:(\d)\2\2+|(\d{2,9}?)\3+)…(?!\d)")
"""0.1666… says which digit goes on."""
_FACTORIAL = re.compile(r"(?<=\d)!=")
"""5!=120, where 5 != 120 has a space."""
_DEGREE = re.compile(r"\^\s*(?:\{\s*°\s*\}|°)|(?<=[\d}])\s?\^\s*(?:\{\s*o\s*\}|o(?![A-Za-z]))")
_WHOLE_TEXT = re.compile(r"^\\text\{([^{}]*)\}$")
_SPACES = re.compile(r"\s+")
_PERCENT_WORD = re.compile(r"(?<=[\d})])\s*(?:per\s?cent(?:age points?|age)?|pct)\b(?!\s*points?)", re.IGNORECASE)
_PERCENT_TEXT = re.compile(r"\\text\{\s*(?:per ?cent|%)\s*\}")
_SIGN_TEXT = re.compile(r"\\text\s*\{ ?(\\?\$|[€£¥₹¢%°]) ?\}")
_ROUND_SUM = re.compile(r"(?<=\d) ?/-(?=[\s$.}]*$)")
"""1250/- is a sum without paise."""
_RUPEES = re.compile(r"\b(Rs\.)(?=\d)", re.IGNORECASE)
_OUTWARD = re.compile(r"([\[\]])([^\[\]()∪]{1,60}[,;][^\[\]()∪]{1,60})([\[\]])")
"""An interval whose open ends are brackets that look away from it."""
_FUNCTION_TEXT = re.compile(r"\\text ?\{ ?((?:arc)?(?:sin|cos|tan|cot|sec|csc)|ln|log|gcd|lcm) ?\} ?(?=[\d(\\])")
_EMPTY_TEXT = re.compile(r"\\text\s*\{\s*\}")
_UNION = re.compile(r"(?<=[)\]}])\s*(?:U|\\text\{\s*U\s*\}|\bunion\b)\s*(?=[(\[{\\])")


def normalize(text: str) -> str:
    """The answer in the parser's spelling; idempotent on its own output for plain answers. Any text is accepted."""
    return _normalized(text) if len(text) <= MAX_ANSWER_CHARS else _normalized.__wrapped__(text)


@lru_cache(8192)
def _normalized(text: str) -> str:
    text = _COLOR.sub("", _unicode(text.strip(" \t\r\n*`")))
    while (boxed := _BOXED.match(text)) is not None:
        text = boxed[1].strip()
    text = _delimiters(_RUPEES.sub(r"\1 ", _ROUND_SUM.sub("", _SIGN_TEXT.sub(r"\1", text))))
    text = _SEPARATOR.sub("", text).replace("\\!", "").replace("{,}", ",")
    text = _UNIT_VECTOR.sub(r" \1\2", _SPACING.sub(" ", text))
    text = _COLON.sub(":", text)
    text = _TEXT_POWER.sub(r"\1}^{\2\3}", _TEXT.sub(lambda m: f"\\text{{{m[1]}}}", text))
    text = _FUNCTION_TEXT.sub(r"\\\1 ", _EMPTY_TEXT.sub(" ", _TEXT_SIGN.sub(r"\1", text)))
    text = _ROMAN.sub(_roman, _NOT.sub(lambda m: "≠" if m[1] == "=" else "∉", text))
    text = _ADJACENT.sub(r"\1/", text)
    text = _PERCENT_TEXT.sub("%", text.replace("\\%", "%"))
    text = _COMMAND.sub(_command, _THEREFORE.sub("", text))
    if "≡" in text and "mod" not in text:
        text = text.replace("≡", "=")  # f(x) ≡ 0
    text = _DEGREE.sub("°", text).replace("...", "…")
    if "…" in text:
        text = _ENDLESS.sub(lambda m: f"{m[1]}\\overline {{{m[2] or m[3]}}}", text)
    text = (
        _FACTORIAL.sub("! =", text)
        .replace("<=", "≤")
        .replace(">=", "≥")
        .replace("!=", "≠")
        .replace("==", "=")
        .replace("**", "^")
    )
    text = _trim(_UNION.sub("∪", _PERCENT_WORD.sub("%", text)))
    return _OUTWARD.sub(_inward, text) if text[:1] == "]" or text[-1:] == "[" else text


def _inward(match: re.Match[str]) -> str:
    """``(0, 1)`` for ``]0, 1[``."""
    left, right = "(" if match[1] == "]" else "[", ")" if match[3] == "[" else "]"
    return f"{left}{match[2]}{right}"


def _unicode(text: str) -> str:
    """Ordinary characters for typographic ones. Superscripts go first: NFKC would make 5² into 52."""
    if text.isascii():
        return text
    text = _COUNTER.sub(r"\1", text)
    text = _METRES.sub(r"\\text{ \1}\2", text)
    text = _SUPERSCRIPT.sub(lambda m: "^{" + "".join(SUPERSCRIPTS[c] for c in m[0]) + "}", text)
    text = _ROOT_SIGN.sub(r"\\sqrt{\1}", text).replace("√", "\\sqrt ")
    text = _SUBSCRIPT.sub(lambda m: "_{" + "".join(SUBSCRIPTS[c] for c in m[0]) + "}", text)
    if any(
        unicodedata.category(c) in ("No", "So") and unicodedata.decomposition(c).startswith("<circle>") for c in text
    ):
        return f"?{_BETWEEN_CIRCLES.sub('', text)}"  # a digit in a circle is no digit: it is only equal to itself
    text = unicodedata.normalize("NFKC", text.translate(_TRANSLATE)).translate(_TRANSLATE)
    # Joiners and marks of direction cannot be seen, and say nothing.
    return "".join(c for c in text if unicodedata.category(c) != "Cf")


def _delimiters(text: str) -> str:
    """Without ``$...$``, ``\\(...\\)``, ``\\[...\\]``; a dollar sign that is money becomes ``¤``."""
    for mark in ("\\(", "\\)", "\\[", "\\]"):
        text = text.replace(mark, "" if "\\\\[" not in text else mark)
    text = text.replace("\\$", "¤")
    if text.count("$") % 2 == 0:
        return text.replace("$", "")
    return text.replace("$", "¤")


def _roman(match: re.Match[str]) -> str:
    """Upright letters: a function's name, one symbol, or words."""
    inner = match[1]
    if _BELOW.search(match.string, max(0, match.start() - 30), match.start()) or (
        inner in ("m", "s", "g", "h") and "{ " in match[0]
    ):
        return f"\\text{{{inner}}}"  # \mathrm{~m} / \mathrm{s}
    if inner in FUNCTIONS and not (inner in ("min", "sec") and re.search(r"[\d}] ?$", match.string[: match.start()])):
        return f"\\{inner} "
    is_words = len(inner) > 1 and (inner.replace(" ", "").isalpha() or _UPRIGHT_UNIT.fullmatch(inner) is not None)
    return f"\\text{{{inner}}}" if is_words else inner


def _command(match: re.Match[str]) -> str:
    name = match[1]
    if name in COMMANDS:
        plain = COMMANDS[name]
        # A space keeps `\cdot x` and `\pi r` apart from their neighbours; commands that take braces must touch them.
        return plain if plain.startswith("\\") else f"{plain} " if plain.strip() else plain
    return f"\\{name}" if name in ("text", "begin", "end") else f"\\{name} "


def _trim(text: str) -> str:
    """One space where there were many, no sentence punctuation or markdown at the ends, no whole-answer ``\\text``."""
    text = _SPACES.sub(" ", text).strip(" \t\n*`")
    text = text.rstrip(" .,;:*`").lstrip(" :*`")
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    while text.startswith("=") or text.startswith("≈"):
        text = text[1:].lstrip()
    if text.startswith("__") and text.endswith("__"):
        text = text.strip("_")
    if (whole := _WHOLE_TEXT.match(text)) is not None:
        return whole[1].strip(" .,;:")
    return text
