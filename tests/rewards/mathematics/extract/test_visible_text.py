"""Answers in thoughts, in comments, struck out or not shown."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

HIDDEN = [
    ('25', '<reason>\\boxed{25}</reason> I cannot tell.'), ('25', '<ponder>\\boxed{25}</ponder> I cannot tell.'), ('25', '// \\boxed{25}'),
    ('25', '<style>\\boxed{25}</style>'), ('25', '<details hidden>\\boxed{25}</details>'), ('25', '~~\\boxed{25}~~'),
    ('25', '<del>\\boxed{25}</del>'), ('25', '<s>\\boxed{25}</s>'), ('25', '~~25~~'), ('25', '\\sout{\\boxed{25}}'), ('25', '\\cancel{\\boxed{25}}'),
    ('25', '<span style="display:none">\\boxed{25}</span>'), ('25', '<｜thinking｜>\\boxed{25}'), ('25', '\\verb|\\boxed{25}|'),
    ('25', '$\\color{white}{\\boxed{25}}$'), ('60', '<inner voice>\\boxed{60}</inner voice>'),
    ('60', '<chain-of-thought>\\boxed{60}</chain-of-thought>'), ('60', '<monolog>\\boxed{60}</monolog>'),
    ('60', '<self-talk>\\boxed{60}</self-talk>'), ('60', '\\vphantom{\\boxed{60}}'), ('60', '\\textcolor{white}{\\boxed{60}}'), ('60', '~~60~~'),
    ('60', '~~The answer is 60~~'), ('60', '~~#### 60~~'), ('60', '<p hidden>\\boxed{60}</p>'),
    ('60', '<div style="display: none">\\boxed{60}</div>'), ('60', '\\boxed{~~60~~}'),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "completion"), HIDDEN)
def test_what_is_not_said_to_the_reader_is_no_answer(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 0
