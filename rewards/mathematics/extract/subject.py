"""The subject of a sentence with a number in it: the quantity that is asked for, or something else.

A text that states no answer is read by its last number, and most sentences have one: "There are 42 ways to fail" says
nothing of apples. A sentence counts if it shares a word or a letter with the question, or has none but those in which
any work is told ("so that makes 42"), or concludes from a calculation. It does not count if it speaks of its writer, of
the text, of the work's steps, of what was given, of one among several, or counts things that the question has not.
"""

import re
from functools import lru_cache

from rewards.mathematics.text.normalize import words
from rewards.mathematics.text.quantity import is_another_quantity
from rewards.mathematics.text.stems import stem
from rewards.mathematics.text.unit import is_measure

MAX_SENTENCE = 400
_END = re.compile(r"[.!?;。](?=\s|$)|\n")
_COUNTED = re.compile(
    r"[\s*$)\\]*(?:(?:more|other|different|possible|distinct|such|total|whole|full|additional|extra|real|positive|"
    r"wrong|"
    r"ordered|new) )*(?P<things>(?P<work>reasons?|mistakes?|errors?|attempts?|tr(?:y|ies)|trials?|guess(?:es)?|hints?|"
    r"steps?|cases?|candidates?|tokens?|words?|lines?|pages?|problems?|questions?|methods?|approach(?:es)?|examples?|"
    r"theorems?|proofs?|formulas?|equations?|calculations?|thoughts?|ideas?|doubts?|options?|answers?)\b"
    r"|[A-Za-z]{3,}[^su\W]s\b(?! (?:as|is|was|has)\b))",
    re.IGNORECASE,
)
"""Things counted behind a number: steps and pages, which are of the work unless the question has them; or things."""
_COUNTABLE = words(
    "ways values solutions times people possibilities integers numbers pairs items units points elements triples cents "
    "arrangements outcomes combinations permutations choices things pieces objects kids children students persons "
    "members minutes tuples subsets sets divisors factors roots zeros digits degrees percents pages bucks coins cards "
    "sequences functions paths triangles squares games matches sides goes equals costs makes gets comes leaves remains "
    "because"
)
"""Things counted so often that a question need not have the word; and verbs that look like plurals."""
_TEXT = re.compile(
    r"\b(?:the|this|that|your|my|our|previous|last|next|a) (?:\w+ )?(?:question|problem|text|hint|prompt|task|exercise|"
    r"book|title|statement|page|image|picture|diagram) (?:\w+ )?(?:has|have|had|says?|said|mentions?|states?|tells?|"
    r"gives?|gave|contains?|asks?|shows?|appears?)\b"
    r"|\bin the (?:question|text|prompt|title|statement|hint)\b"
    r"|\b(?:it|they|he|she|someone|somebody|people|everyone) (?:says?|told)\b",
    re.IGNORECASE,
)
_WRITER = re.compile(
    r"\b(?:I(?!\s+(?:then |now |also |finally |can |therefore |thus )?(?:get|got|find|found|obtain|have (?:that|to)|"
    r"compute|calculate|conclude|think|believe|see|deduce|arrive|determine|end|know|add|subtract|multiply|divide|"
    r"would say|say)\w*)|my|me|mine)\b"
)
"""The writer, unless as one who comes to a result."""
_OF_WRITER = re.compile(r"\b(?:i|my|me|mine|we|our|us|your?)\b", re.IGNORECASE)
_GIVEN = re.compile(
    r"\b(?:given that|initially|originally|at first|at the (?:start|beginning|outset)|in the beginning|"
    r"to (?:start|begin) with|(?:start|began|begin|begun|started)s? (?:out )?with|outside|yesterday|previous(?:ly)?|"
    r"lucky|favou?rite|random)\b|^\s*(?:first|suppose|assume)\b",
    re.IGNORECASE,
)
_ONE_OF = re.compile(
    r"(?:^|[,:]\s*|\b(?:so|thus|that|and|then|but|hence|therefore) )"
    r"(?P<phrase>(?:an?|one|another|some|any|each|every) (?:[a-z]+ ){1,4}?)"
    r"(?:is|was|are|would be|could be|may be)[\s$*]*$",
    re.IGNORECASE,
)
_PART = re.compile(
    r"\b(?P<part>denominator|numerator|discriminant|coefficient|exponent|bound|limit|guess|possibility|"
    r"first (?:term|number|digit)|last (?:term|digit)|modulus|divisor|base|score|year|page|temperature)s? "
    r"(?:(?:of|for) [^.,]{1,40} )?(?:is|was|equals|=)[\s$*]*$",
    re.IGNORECASE,
)
"""Parts of the work that have a name of their own."""
_OTHER_END = re.compile(
    r"\b(?:to|of|for) (?:(?:be|being|get|getting|go|going|do|doing) )?(?:it )?(?:fail\w*|los(?:e|ing)|wrong\w*|err\w*|"
    r"cheat\w*|guess\w*|die|dying|giv\w+ up|solve (?:this|it|the (?:problem|question))|misread\w*|waste\w*|hack\w*|"
    r"trick\w*|understand\w*|answer\w*)\b|\bbut (?:we|i|you|they|it|this|that|not|need)\b",
    re.IGNORECASE,
)
"""Purposes that no question has, and clauses that go on to something else."""
_CONCLUDES = re.compile(
    r"^\W*(?:so|thus|therefore|hence|then|finally|that means|this means|(?:in|for a|all) total|altogether|"
    r"(?:all )?together)\b",
    re.IGNORECASE,
)
_EXISTS = re.compile(r"\bthere (?:is|are|was|were|will be)[\s$*]*$", re.IGNORECASE)
_COUNTS = re.compile(
    r"\bhow (?:many|much|long|old|far|often)\b|\bnumbers? of\b|\b(?:are|is) there\b|\btotal\b|\bcount|\bin how\b",
    re.IGNORECASE,
)
"""A question that asks how many there are."""
_COMMAND = re.compile(r"\\(?:(?:begin|end|text|mathrm|mathbf)\{[^{}]{0,20}\}|[A-Za-z]+)|\[/?asy\]")
_FORMULA = re.compile(r"\$[^$]{1,200}\$|\\[\[(].{1,200}?\\[\])]")
_NAME = re.compile(r"[A-Za-z]+")
_NOTATION = words(
    "frac dfrac tfrac sqrt cdot times left right text begin end align in le leq ge geq ne neq infty circ quad mathrm "
    "mathbf e i pi"
)
_COMMON = words(
    "the and are was were will would that this there their they then thus hence therefore have has had having his her "
    "its him she for from with each per all any some one two three four five six seven eight nine ten both more left "
    "number answer result value sum total altogether product difference amount cost price since because which when "
    "where what who how many much than after before only just also into out over about our your you yours them these "
    "those such being been does did not but every other another same even still again once twice finally first last "
    "next previous above below whole exactly precisely simply clearly easily overall common right hand part going "
    "people person money time way cent dollar hour minute second day week month year percent solution possibility "
    "probability get got gets give gives make makes made take takes took need needed spend spent pay paid earn earned "
    "equal must can could should now use used using find found remaining remain end ended ending done come came "
    "become became mean meaning divide dividing divided side add adding added subtract subtracting multiply "
    "multiplying multiplied multiplies equation simplify simplifies simplified simplifying solve solving solved "
    "factor factoring plug plugging substitute substituting substitution follow following imply implies combine "
    "combining combined combination together case obtain obtained yield yielding leave leaving calculate calculated "
    "calculating calculation compute computed computing computation determine evaluate evaluating set setting let "
    "note noting see know knowing show conclude conclusion like figure rearrange rearranging group grouping "
    "distribute isolate term plus minus subtracted squared cubed expression formula numerator denominator different "
    "desired required distinct smallest largest least greatest minimum maximum minimal maximal possible property lot "
    "step"
)
"""Words with which any question could be answered."""


def is_of_another(text: str, start: int, end: int, question: str) -> bool:
    """Return True if the sentence around the number between these places speaks of something else than the question.

    Without a question, only what no question is about is known: the writer, the text, the steps of the work.
    """
    first = max(0, start - MAX_SENTENCE)
    opening = max((m.end() for m in _END.finditer(text, first, start)), default=first)
    closing = _END.search(text, end, end + MAX_SENTENCE)
    before, after = text[opening:start], text[end : end + MAX_SENTENCE if closing is None else closing.start()]
    sentence, asked = f"{before} {after}", question.lower()
    if is_another_quantity(before, question):
        return True
    computed = "=" in text[start:end] or before.rstrip(" $*")[-1:] in ("=", "≈")
    if (
        _TEXT.search(sentence)
        or _OTHER_END.search(after)
        or _counts_others(after, question)
        or _only_exists(before, after, question)
    ):
        return True
    if _WRITER.search(_COMMAND.sub(" ", sentence)) and not _OF_WRITER.search(question):
        return True
    given = None if computed else _GIVEN.search(sentence)
    single, part = _ONE_OF.search(before), _PART.search(before)
    named = [m[0][:5] if m is given else m[1] for m in (given, single, part) if m is not None]
    if any(name.strip().lower() not in asked for name in named):
        return True
    if not question or (computed and (text[end - 1] in "$])" or _CONCLUDES.search(before))):
        return False
    return not _overlaps(sentence, question)


def _only_exists(before: str, after: str, question: str) -> bool:
    """Return True for "there are 59 ways" where nothing is counted, and "there are 72 hours" where hours are not."""
    if not question or not _EXISTS.search(before):
        return False
    things = _NAME.search(after)
    measured = (
        things is not None and is_measure(things[0].lower()) and stem(things[0].lower()) not in _all_stems(question)
    )
    return measured or not _COUNTS.search(question)


def _counts_others(after: str, question: str) -> bool:
    """Return True if the things behind a number are not the question's, no measure, and not what is often counted."""
    match = _COUNTED.match(after)
    if match is None or stem(match["things"].lower()) in _all_stems(question):
        return False
    things = match["things"].lower()
    return match["work"] is not None or (bool(question) and things not in _COUNTABLE and not is_measure(things))


def _overlaps(sentence: str, question: str) -> bool:
    content, asked = _stems(sentence), _stems(question)
    return not (content and asked) or not content.isdisjoint(asked) or not _names(sentence).isdisjoint(_names(question))


def _names(text: str) -> set[str]:
    """The letters and Greek letters in a text's formulas."""
    return {name for formula in _FORMULA.findall(text) for name in _NAME.findall(formula)} - _NOTATION


def _stems(text: str) -> set[str]:
    """The words of a text that say what it is about."""
    all_words = (w.lower() for w in _NAME.findall(_COMMAND.sub(" ", text)))
    return {stem(w) for w in all_words if len(w) > 2 and not {w, w.removesuffix("s")} & _COMMON}


@lru_cache(512)
def _all_stems(question: str) -> frozenset[str]:
    return frozenset(stem(w.lower()) for w in _NAME.findall(question))
