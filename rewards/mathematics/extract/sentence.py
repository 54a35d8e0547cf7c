"""The answer in a sentence: its only formula if it has one, else what it says the answer is, without the reasons."""

import re

from rewards.mathematics.text.formulas import MATH, inside, is_formula

BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*")
_HALF_BOLD = re.compile(r"(?<=[^\s*])\*\*(?=[\s.,]|$)")
"""The end of bold text whose beginning was read with the words before it; 2**3 has no space."""
_END = re.compile(r"\n|[.!?](?=\s|$|\*\*)|[.](?=[\"')\]]*\s)|<\||</|。")
_CLAUSE = re.compile(
    r"(?:,\s*|\s+)(?:because|since|so|as|which|where|when|after|given that|if|I hope|for a total|"
    r"hence|therefore|thus|and (?:we|I|it|this|that|the)\b)\b.*$|\s*\((?:since|because|as|where|which|from)\b.*$"
    r"|,\s*(?:in total|altogether|overall|all together|approximately|as required|respectively)\b.*$",
    re.IGNORECASE | re.DOTALL,
)
_LUCK = re.compile(
    r"[,\s]*if\b[^.\n]*\b(?:luck\w*|I(?: am|['’]m)?|right|correct|mistaken|wrong|guess\w*|true|rains?|please\w*|"
    r"like)\b",
    re.IGNORECASE,
)
"""A condition that is none of mathematics: what it is about is no answer."""
_CASES = re.compile(r"\b(?:if|when|where|after)\b.*\b(?:otherwise|else|or|and|but)\b", re.IGNORECASE | re.DOTALL)
"""A clause that goes on to another case: "42 if x > 0, else 43" states no 42."""
_SUBJECT = re.compile(
    r"^(?:therefore,? |thus,? |so,? |hence,? )?(?:the|there|their|its|it|this|we|each|his|her|a|"
    r"an)\b[^.=]{0,200}?\b(?:is|are|was|were|equals|"
    r"equal to|be|has|have)\s+(?!not\b|less\b|more\b|at\b|between\b|never\b)(?=[-+$\\(\d*])",
    re.IGNORECASE,
)
_CHANGES = re.compile(r"\b(?:not|less|more|least|most|or|and|between|than|except|half|twice|under|over|squared)\b")
_NEXT_LINE = re.compile(r"[ \t]*\n\s*(\$?[-+]?\d[\d,./]*%?\$?)[ \t.]*(?=\n|$)")
_COUNTED = re.compile(r"^[\u4e00-\u9fff，、 ]*?(?:一共有|共有|还有|还剩下?|有|是|为|需要|等于|得)(?=[\d$\\-])")


def sentence(text: str, start: int) -> tuple[str, int, bool]:
    """The rest of the sentence, with a formula that opens it kept whole; on the next line if this one is empty. And
    where it ends, and whether it ends in a question mark."""
    while start < len(text) and text[start] in " \t\n*:：✅✔☑✓➡→👉\ufe0f":
        start += 1
    at = start
    formula = MATH.match(text, start)
    if formula is not None and is_formula(formula):
        at = formula.end()
    end = _END.search(text, at)
    stop = len(text) if end is None else end.start()
    content = text[start:stop][:2_000].strip()
    more = _NEXT_LINE.match(text, stop) if end is not None and end[0] == "\n" else None
    if more is not None and more[1].strip("$") != content.strip("$* "):
        content = f"{content.rstrip(',;')}, {more[1]}"  # numbers one below the other are several answers
        stop = more.end()
    return content, stop, end is not None and end[0] == "?"


def only_formula(text: str) -> str | None:
    """The one formula of a clause without other numbers, with the unit behind it; None if there are more, or none."""
    formulas = [m for m in MATH.finditer(text) if is_formula(m)]
    if len(formulas) != 1:
        return None
    before, after = text[: formulas[0].start()].strip(), text[formulas[0].end() :]
    if re.search(r"\d", before + after) or _CHANGES.search(before + after):
        return None
    return f"{inside(formulas[0])} {_unit(after)}".strip()


def answer_in_clause(text: str) -> str:
    """The answer in a clause."""
    bold = BOLD.match(text)
    text = _HALF_BOLD.sub("", text if bold is None else bold[1])
    text = _COUNTED.sub("", text)
    subject = _SUBJECT.match(text)
    text = text if subject is None else text[subject.end() :]
    if (formula := only_formula(text)) is not None:
        return formula
    clause = _CLAUSE.search(text)
    if clause is None or _LUCK.match(clause[0]) or (_CASES.search(clause[0]) and re.search(r"\d|\b[A-J]\b", clause[0])):
        return text.strip(" \t*`")
    return text[: clause.start()].strip(" \t*`")


def _unit(after: str) -> str:
    match = re.match(r"\s*(\\?%|percent\b|[A-Za-z][A-Za-z ]{0,40})", after)
    return "" if match is None else _CLAUSE.sub("", match[1]).strip()
