"""The groups and commands around a box: ``\\textbf{\\boxed{42}}`` shows 42, ``\\footnote{\\boxed{42}}`` does not.

What a command does with its group is known of few, so that only these leave a box what it is.
"""

import re

from rewards.mathematics.text.normalize import words

MAX_WINDOW = 1_000
"""Characters before a box in which the groups around it begin."""
_SHOWS = {
    **dict.fromkeys(
        words(
            "text textbf textit textrm textsf texttt textup textnormal emph mathbf mathrm mathit mathsf boldsymbol bm "
            "mbox hbox fbox framebox boxed ensuremath displaystyle textstyle underline centerline begin tag* Large "
            "large huge Huge small bf rm it mathstrut left right parallel quad qquad"
        ),
        0,
    ),
    **dict.fromkeys(words("color textcolor colorbox href parbox"), 1),
    "fcolorbox": 2,
}
"""Commands that show their last group as it is, and how many groups come before that one."""
_LEADS_TO = words(
    "quad qquad therefore because implies Rightarrow rightarrow longrightarrow Longrightarrow iff Leftrightarrow "
    "Longleftrightarrow to leadsto displaystyle textstyle bf rm it bfseries boldmath large Large LARGE huge Huge small "
    "normalsize centering newline par noindent hfill item hline left big Big bigl Bigl approx simeq equiv cong in ni "
    "leq geq le ge leqslant geqslant lt gt ne neq land lor wedge vee colon mid checkmark star "
    "bullet square blacksquare Box leftarrow space thinspace enspace medspace smallskip medskip bigskip vspace And Or "
    "middle right qed limits cup"
)
"""Commands that may stand before a box and leave it what it is; others apply to it: ``\\neg\\boxed{42}``."""
_BRACE = re.compile(r"\\(?:[A-Za-z]+|.)|[{}]", re.DOTALL)
_HEAD = re.compile(
    r"(?:\\(?P<command>[A-Za-z]+\*?)\s*(?:\[[^\[\]]{0,40}\]\s*)?(?P<groups>(?:\{[^{}]{0,80}\}\s*)*)|"
    r"(?P<script>[_^])\s*)$"
)
_COMMAND = re.compile(r"\\([A-Za-z]+)\s*$")


def is_wrapped(text: str, start: int) -> bool:
    """Return True if a box that begins at ``start`` stands in a group, or behind a command, that makes another thing
    of it."""
    opening = max(0, start - MAX_WINDOW)
    before = text[opening:start]
    command = _COMMAND.search(before[-40:])
    if command is not None and command[1] not in _LEADS_TO:
        return True
    return any(not _shows(before[:brace]) for brace in _open(before))


def _open(before: str) -> list[int]:
    """The places of the braces that are open at the end."""
    places = list[int]()
    for brace in _BRACE.finditer(before):
        if brace[0] == "{":
            places.append(brace.start())
        elif brace[0] == "}" and places:
            places.pop()
    return places


def _shows(head: str) -> bool:
    """Return True if the group that follows is shown as it is."""
    match = _HEAD.search(head[-200:])
    if match is None:
        return True
    if match["script"]:
        return False
    groups = _SHOWS.get(match["command"])
    return groups is not None and match["groups"].count("{") >= groups
