"""Words around a number in prose that make another statement of it: "half of 42", "42 squared", "not 42"."""

import re

_NUMBERED = (
    r"step|problem|question|equation|eq\.|line|page|pp?\.|part|number|no\.|nr\.|case|room|chapter|ch\.|exercise|"
    r"theorem|"
    r"lemma|figure|table|section|example|appendix|footnote|version|see"
)
_OF = (
    r"multiples?|factors?|divisors?|square|cube|root|power|third|quarter|fifth|tenth|half|reciprocal|inverse|opposite|"
    r"negative|logarithm|one|two|both|some|all|none|most|digits?|out"
)
_VALUES = "total sum cost price profit area age average value speed amount volume mean length maximum minimum answer"
_BEFORE = (
    r"\bnot(?: quite| exactly| really| even| just)?|\bunless|\bdivid(?:es|ing)|n['’]t|\bnever|\bcannot|"
    r"\bexcept(?: for)?|\bwithout|\bmaybe|\bperhaps|\bpossibly|"
    r"\b(?:all|anything|nothing) but|\bthan|\bat (?:least|most)|\bminus|\bplus|\bnegative|\bhalf(?: of)?|\btwice|"
    r"\bdouble|\btriple|\bthrice|\btimes|\bbetween|\buntil|\bunder|\bover|\babove|\bbelow|\bnear|\bless|"
    r"\b(?:nearly|almost|barely|hardly|scarcely)|\b(?:may|might|could) be|\bdoubt\w* that (?:it|this) is|"
    r"\b(?:wrong|incorrect|unlikely to be|modulo|mod|base|through|thru|log|ln|like|such as|e\.g\.|including)|"
    r"\bfor (?:example|instance)|\bup to(?: and including)?|\bby|\bfrom|\bexceeds?|\bbefore|\bafter|\bwithin|\bpast|"
    r"(?:^|[.;:!?\n] ?|\bi )(?:reject|exclude|discard|try|trying|test|testing|take|consider|given:?)|"
    r"\b(?:let|when|where|with|since|because|if|as|for) [a-z](?: ?=| be| is| equals)|"
    rf"\b(?:{_NUMBERED})|\b(?:{_OF}) of|\d\s*to|\bof"
    + "".join(rf"(?<!\b{value} of)" for value in _VALUES.split())
    + r"|[<>≤≥≠]=?|\\(?:le|ge|ne|lt|gt|leq|geq|neq)\b|!="
)
_OTHER_LEFT = re.compile(
    rf"(?:{_BEFORE})\s+(?:be\s+|equal(?:s|\s+to)?\s+|(?:the|a|an|number|about|first|last)\s+)*(?:\$|\\\(|[*(\[])*$"
    r"|(?:[<>≤≥≠]=?|不是|并非|不等于|小于|大于|少于|多于|超过|至少|至多|不到|不足|不超过|将近|不止|不会是|除了|可能是|可能为|可能|也许是?|或许是?|\.\.\.,?|…,?|"
    r"\\l?dots,?)\s*$",
    re.IGNORECASE,
)
_BY = re.compile(
    r"\b(?:increas|decreas|chang|reduc|ris|grow|fall|drop|declin|shr[iu]nk|rose|grew|fell|improv)\w* by[\s$*(]*$",
    re.IGNORECASE,
)
_ASKED_BY = re.compile(
    r"\bby (?:how|what)\b|\b(?:percent(?:age)?|%) (?:of )?(?:increase|decrease|change|growth|drop|rise|decline|"
    r"reduction)\b",
    re.IGNORECASE,
)
"""A question about a change, whose answer is by how much."""
_NO_RESULT = "".join(
    rf"(?<!\b{verb} )" for verb in ["comes", "amounts", "up", "equal", "sums", "simplifies", "reduces", "evaluates"]
)
_COMPANION = re.compile(
    rf"(?:\bor|\bor (?:it|that|[a-z]) (?:is|=)|\ba\.?k\.?a\.?|\beither|;|{_NO_RESULT}\bto|\bbetween"
    r"|[\d}\\]\S*,?\s+and)\s*[$(]?$",
    re.IGNORECASE,
)
"""Words that join a value to one before it that is no number."""
_PARTS = r"(?:\w+)?(?:tenth|hundredth|thousandth|third|quarter|fifth|sixth|seventh|eighth|ninth|twelfth)s?\b"
_OTHER_RIGHT = re.compile(
    rf"[\s*$)]*(?:(?:and|or)\s+(?:a|one|two|three|more|less|so|fewer|maybe|perhaps|above|below|up|over|under|"
    rf"greater|higher|"
    rf"lower|beyond)\b|squared|cubed|{_PARTS}|(?:hundred|thousand|million|billion|trillion|lakh|crore)\b|halves|half|"
    r"doz(?:ens?)?\b|pairs?\b(?! of)|couples?\b(?! of)|scores?\b|gross\b|factorial|something\b|and change|"
    r"less (?:one|two|\d)|per cent|permille|pct\b|bps\b|basis points?|(?-i:K|M|bn)\b|"
    r"(?:nano|micro|milli|kilo|mega|giga|imaginary|octal|reversed|backwards|inverted|negated)\b|in (?:hex|octal|"
    r"binary)|"
    r"(?:root|power)\b|times as (?:many|much) as|doubled|tripled|halved|plus|minus|times (?!a |per |each |in |as |"
    r"\w+ly)|"
    r"divided|multiplied|modulo?|mod|percent of|of (?:one|a)\b|at (?:least|most)\b|onwards?\b|upwards?\b|"
    r"among others|etc\b|"
    r"is (?:too|less|more|greater|smaller|bigger|larger|prime|even|odd|a|an|not|the (?:number|sum|product|first|"
    r"smallest|"
    r"largest)\b)|(?:less|more|fewer|greater|higher|lower|smaller|larger) than|[^.\n]{0,40}\bbut (?:none|no|not)\b|"
    r"[<>≤≥≠])"
    r"|,? (?:etc\b|\.\.\.|…)",
    re.IGNORECASE,
)
_DISPUTED = re.compile(
    r"\b(?:doubt|unlikely|hardly|scarcely|mistaken(?:ly)?|wrong(?:ly)?|incorrect(?:ly)?|false(?:ly)?|"
    r"(?:might|may|would|could) (?:think|say|guess|believe))\b[^.\n]{0,80}$"
    r"|\b(?:did|does|do|should|would|will|could|can|is|are|was|were|has|have|had|must)(?: not| never|n['’]t|not) "
    r"(?:\w+ ){1,4}(?:\$|\*\*|\\\()?$",
    re.IGNORECASE,
)
_DISPUTE = re.compile(r"[^.\n]{0,40}\bbut\b[^.\n]{0,40}(?:\bnot\b|n['’]t\b|\b(?:wrong|incorrect|false|mistaken)\b)")
_CHINESE_BEFORE = re.compile(
    r"(?:不是|并非|至少|至多|可能|也许|或许|大概|不到|不足|不会|未必|难道|假如|如果|假设|错|\d\s*[到至~～—])[^。，,；;\n]{0,20}$|第\s*$"
)
_CHINESE_AFTER = re.compile(
    r"[^。\n]{0,12}(?:吗|呢)?[？?]|[^。，\n\d]{0,8}(?:吗|以上|以下|左右)|\s*[倍多几]|[^。\n]{0,6}(?:不对|错)"
)
"""Words in the clause of a number that leave it open, or make another one of it."""
_COUNTERFACTUAL = re.compile(r"\bwould have (?:been|\w{2,}(?:ed|[dt]|en|n))\b[^.\n]{0,60}$", re.IGNORECASE)
_CONDITION = re.compile(r"[^.\n]{0,40}\bif\b[^.\n]{0,40}\b(?:had|were)\b", re.IGNORECASE)
"""Words of a result that would have been, if something had been otherwise."""
_VERBS = (
    r"is|am|are|was|were|be|been|has|have|had|will|would|can|could|must|should|get|got|give|gave|make|made|need|take|"
    r"took|pay|"
    r"paid|sell|sold|spend|spent|cost|leave|left|equals?|buy|bought|eat|ate|find|found|went|go|came|won|lost|ran|read|"
    r"wrote|kept|put|saw|see|say|said|do|did|earn|save|use|remain|means?|drove|sent|drank|slept|brought|threw|"
    r"caught|taught|"
    r"grew|flew|wore|shot|built|held|fed|met|led|cut|hit|set|let|beat|swam|sang|rode|spoke|told|thought|knew|drew|fell|"
    r"rose|chose|dug|hung|stole|stuck|swept|woke|raise|weigh|fail|survive|work|travel|walk|want|live|play|total"
)
_VERB = re.compile(
    rf"[=≈:：\u4e00-\u9fff]|['’]s\b|\b(?:{_VERBS}|answer|so|thus|hence|therefore|\w{{3,}}(?:s|ed))\b", re.IGNORECASE
)
_PLAIN_VERB = re.compile(rf"\b(?:{_VERBS})\b", re.IGNORECASE)
"""Verbs; before a number also what may be one by its ending."""
_CONNECTIVE = re.compile(r"^(?:so|thus|hence|then|therefore|and|in total|altogether)[ ,:]+", re.IGNORECASE)


def changes_before(text: str, start: int, question: str = "") -> bool:
    """Return True if the words before a number, or what it stands beside, make another statement of it."""
    context = max(0, start - 30), start
    if _BY.search(text, *context) and _ASKED_BY.search(question):
        return False
    return any(pattern.search(text, *context) is not None for pattern in (_OTHER_LEFT, _COMPANION))


def changes_after(text: str, end: int) -> bool:
    """Return True if the words behind a number make another statement of it."""
    return _OTHER_RIGHT.match(text, end) is not None


def is_disputed(text: str, start: int, end: int) -> bool:
    """Return True if its sentence says that a number is not the answer: "you might think it is 42, but ..."."""
    if _CHINESE_BEFORE.search(text, max(0, start - 40), start) or _CHINESE_AFTER.match(text, end):
        return True
    if _CONDITION.match(text, end) and _COUNTERFACTUAL.search(text, max(0, start - 100), start):
        return True
    before, after = _DISPUTED.search(text, max(0, start - 100), start), _DISPUTE.match(text, end)
    return before is not None or after is not None


def fragment(text: str, start: int, end: int) -> str | None:
    """The line around a number if no verb stands before it, and nothing is said of it: "Theorem 17"."""
    opening = max(text.rfind(mark, 0, start) for mark in ("\n", ". ", "! ", "? ", "。", "; ")) + 1
    closing = text.find("\n", end)
    closing = closing if closing >= 0 else len(text)
    if _VERB.search(text, opening, end) or _PLAIN_VERB.search(text, end, closing):
        return None
    return _CONNECTIVE.sub("", text[opening:closing].strip())
