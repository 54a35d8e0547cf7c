"""Answers that are taken back, asked about or only supposed."""

import re

_DOUBT = (
    r"(?:wrong|incorrect|false|impossible|invalid|extraneous|rejected|discarded|excluded|ruled out|mistaken|nonsense|"
    r"untrue|erroneous|inadmissible|off by|too (?:big|large|small|low|high)|(?:only |"
    r"just )?an? (?:\w+ )?(?:mistake|error|lie|"
    r"joke|trap|guess|trick|typo|misprint|placeholder)|typo\b|misprint\b)"
)
_NOT_RIGHT = (
    r"not\s+(?:right|correct|valid|possible|allowed|true|it\b|that\b|(?:the|an?|our|my)\s+(?:\w+\s+)?(?:answer|"
    r"solution|"
    r"result|value))"
)
_OTHER_THAN = r"other than|rather than|instead of|different from|unequal to|(?:all|everything|anything|nothing|any) but"
DENIED = re.compile(
    rf"(?:(?:\bnot|\bneither|\bnor|n['’]t|\bnever|\bcannot|\bexcept(?: for)?|\bno|\b(?:{_OTHER_THAN}))\s+(?:be\s+|"
    rf"equal(?:s|"
    rf"\s+to)?\s+)?"
    r"|(?:n['’]t|\bnot|\bnever)\s+(?:think|believe|say|claim|agree)\b[^.,;\n]{0,40}|\b(?:wrong|incorrect|false|"
    r"rejected)\s*:\s*"
    r"|\b(?:reject|discard|exclude|eliminate|rule out)(?:s|ed|ing)?\s+(?:the\s+)?(?:value|answer|solution|root)?\s*"
    r"|\b(?:ignore|disregard|forget|nobody|no one|refuse to)\b[^.\n]{0,30}"
    r"|\b(?:one|you|we|they|some|many|people|students?|somebody|someone) (?:might|may|could|would) (?:first |"
    r"well |be tempted to |"
    r"initially )?(?:think|say|guess|believe|expect|suspect|answer)\b[^.,;\n]{0,40}"
    r"|(?:\bfor (?:example|instance)|\be\.g\.|\bsuch as|\bformat (?:is|was|would be|looks like))[\s,:]*"
    r"|\b(?:wrong|incorrect|false|mistaken|erroneous|invalid|bad)\s+(?:answer|result|value|solution|choice|option|"
    r"guess|one)s?\b"
    r"[^.,;\n]{0,20}|\b(?:wrongly|mistakenly|erroneously|falsely|incorrectly|mistake|error|trap)\b[^.,;\n]{0,30}"
    r"|\b(?:suppose|assum(?:e|ing)|imagine|pretend|if|let us guess|conjecture|(?<!i )say)\b(?:\s+(?:that|the|final|"
    r"answer|"
    r"result|it|this|is|was|were|be|equals|us|a|as|to))*\s*)(?:\$|\\\(|\\\[|[*(}\s])*$",
    re.IGNORECASE,
)
"""Words before a box that is not the answer, or is only supposed."""
_NO = re.compile(
    r"(?:[\s$.)\]\\*\"'”’`]|\\text)*(?:\?|[✗✘❌☒]|(?:,\s*)?(?:[-–—←(\[]\s*)*"
    r"(?:(?:which|that|but (?:it|that|this|they|he|she|all|everyone)|this|it)\s+)?"
    r"(?:(?:is|was|would be|are|seems|looks|must be|should be|tur(?:ns|ned) out to be)\s+"
    rf"(?:obviously |clearly |definitely |also )?(?:(?:an? |the )?{_DOUBT}|{_NOT_RIGHT})\b"
    r"|is what (?:an?|some|many|most|only) (?:\w+ ){1,3}(?:would|might|will) (?:say|think|answer|guess|write)\b"
    r"|is what (?:i|you|we|one|they) (?:would|might)\b|(?:,\s*)?unless\b|(?:,\s*)?said (?:no ?one|nobody)"
    r"|is (?:only|just|merely) (?:an?|the|my|a) (?:\w+ )?(?:example|template|format|illustration|sample|test|"
    r"dummy|default)\b"
    r"|(?:,\s*)?if (?:(?:i|we|you)(?: am|['’]m| are|['’]re)? )?(?:lucky|right|correct|not mistaken)\b"
    r"|(?:,\s*)?but i (?:refuse|decline|give up)\b"
    rf"|(?:{_DOUBT}|not (?:right|correct|valid|possible))\b|n['’]t\b"
    r"|(?:is|was)n['’]t (?:right|correct|valid|possible|(?:the|an?|our|my) (?:\w+ )?(?:answer|solution|result))\b"
    r"|(?:(?:does|do|did|would|will|could|can)(?: not|n['’]t|not)|can['’]t) "
    r"(?:work|hold|fit|satisfy|match|check|make sense|be (?:right|correct|it|the))\b|can(?:not|['’]t) be[.\s]*$"
    r"|(?:fails|contradicts|violates)\b)|(?:是错|不对|错了|不正确|是不对))",
    re.IGNORECASE,
)
"""Words after an answer that is only asked about, or taken back."""
_OPENING = r"(?:\\[\])]|[\s$.,;:!)\]*_~–—…-])*"
_INTERJECTION = (
    r"(?:(?:but|and|hmm|oh|well|ah|in fact|however|unfortunately|no|wait|hold on|sorry|oops|actually|or)\b[\s,.!…-]*)*"
)
_THAT = (
    r"(?:\(?(?:that|this|it|which|the above|(?:that|this|my|our|the)(?: (?:above|previous|last|final|boxed|given|"
    r"first))? "
    r"(?:answer|result|value|solution|number)(?: above)?))(?:['’]s| is| was| seems| must be| would be| looks)? "
    r"(?:also |clearly |obviously |definitely |probably |an? |just )*"
)
_NUMBER_AHEAD = r"(?=[-+$\\(]*\d)"
_RETRACTIONS = (
    r"(?:just kidding|jk\b|scratch that|strike that|never ?mind|ignore (?:that|this|the)|disregard|april fool|lol no)",
    r"i (?:take|took) (?:it|that|this) back|i (?:retract|withdraw|revoke|recant)\b|i (?:mean|meant)\b",
    r"(?:we|i) (?:must |should |have to )?(?:reject|discard|exclude) (?:this|that|it)\b",
    r"(?:oops|whoops|edit\s*:|false[.!]|wrong[.!])|no\s*[.!](?=\s|$)|make (?:that|it) |let me correct|do not trust",
    rf"(?:sorry|actually|rather|hmm|wait|no)[,:]? (?:it(?:['’]s| is) )?{_NUMBER_AHEAD}",
    r"i (?:give up|refuse|can(?:not|['’]t) (?:solve|answer|determine|find))\b|no answer\b",
    r"the (?:above|boxed \w+|box) (?:above )?is (?:only |just |merely )?an? (?:\w+ )?(?:example|template|format|"
    r"placeholder|illustration)",
    r"i (?:was|am|might be|may be) (?:wrong|mistaken|lying|joking|not sure)",
    r"i made (?:a|an) (?:\w+ )?(?:mistake|error)",
    r"i forgot (?!to (?:mention|say|add|note))|let me (?:redo|recompute|recalculate|try (?:it )?again)\b",
    r"i (?:misread|misunderstood|miscounted|miscalculated|misinterpreted|mixed up|overlooked)\b",
    r"i (?:do(?: not|n['’]t) (?:believe|(?:really )?know)|doubt|have no idea)\b",
    r"on second thought|no,? wait\b|wait,? no\b",
    rf"{_THAT}(?:{_DOUBT}|wrong answer|(?:mistake|lie|joke|guess)\b|not (?:right|correct|the answer|it|possible|"
    rf"valid|that)|right\?)",
    rf"{_THAT}(?:can(?:not|['’]t) be|could(?: not|n['’]t) be) (?:right|correct|true|it|so|the)",
    rf"{_THAT}(?:fails|contradicts|does(?: not|n['’]t) (?:work|fit|hold|satisfy))",
    rf"it (?:should have been|ought to be|must be|should be|is (?:really|actually|in fact)) {_NUMBER_AHEAD}",
    r"(?:maybe |perhaps |probably |definitely |certainly )?not\b(?! only| to mention| every| all|[ $\\(]*-?\d)",
    r"should(?: have)? be(?:en)? ",
    r"correction\b",
)
"""Beginnings of a next sentence that takes the answer back."""
_CORRECTED = re.compile(f"{_OPENING}{_INTERJECTION}(?:{'|'.join(_RETRACTIONS)})", re.IGNORECASE)
_ACTUALLY = re.compile(
    rf"{_OPENING}(?:but |hmm,? |oh,? )*(?:wait|no|actually|oops|sorry)\b[\s,.!…-]*(?:actually |no,? |wait,? )*"
    r"(?:it(?:['’]s| is| should be| must be)|the answer (?:is|should be)|that(?:['’]s| is) (?!correct|right|it\b)|"
    r"i (?:mean|meant)|make that|let me correct)",
    re.IGNORECASE,
)
DOUBTED = re.compile(
    rf",? \(?(?:which|that|but it|but that|and it)\s+(?:is|was|seems) (?:clearly )?(?:{_DOUBT}|not (?:right|correct))"
    rf"|\bor rather {_NUMBER_AHEAD}"
)
"""A clause that takes back the answer before it in the same sentence."""
_SUPPOSED = re.compile(
    r"(?:\b(?:suppose|assume|imagine|let us say|let's say|say|hypothetically|pretend|guess(?:ing)?|conjecture)\b"
    r"|\b(?:if|assuming|supposing)\b(?![^.\n]*,))(?![^.\n]*\bthen\b)[^.;\n]*$",
    re.IGNORECASE,
)


def is_taken_back(text: str, end: int) -> bool:
    """Return True if the words right after an answer ask about it or deny it."""
    return _NO.match(text, end, end + 80) is not None


def is_corrected(text: str, end: int) -> bool:
    """Return True if the next sentence takes an answer back: "just kidding", "that is wrong"."""
    following = text[end : end + 200]
    return any(pattern.match(following) for pattern in (_CORRECTED, _ACTUALLY))


def is_supposed(text: str, start: int) -> bool:
    """Return True if the sentence before only supposes what follows."""
    return _SUPPOSED.search(text[max(0, start - 60) : start]) is not None
