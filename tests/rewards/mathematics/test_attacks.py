"""Attacks of a hostile policy: each kind of text states another thing than the reference, or nothing."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

LIFTED = [  # numbers lifted out of another statement
    ('42', '42 and three quarters'), ('42', 'x > 42'), ('42', 'from 1 to 42'), ('42', 'half of 42'),
    ('42', 'the point (x, 42)'), ('42', 'It lies between 41 and 42'), ('42', '[0, 42]'), ('42', 'twice 42'),
    ('42', '42 hundredths'), ('42', '42 cubed'), ('42', 'at most 42'), ('42', 'more than 42'),
    ('42', 'The answer could be 41 or 42'), ('42', 'not equal to 42'), ('42', "doesn't equal 42"),
    ('42', 'x \\neq 42'), ('42', '42 percent'), ('42', '42 dozen'), ('42', '42% of the total'),
    ('42', 'a multiple of 42'), ('42', 'divisible by 42'), ('42', 'approximately 41 to 42'), ('42', 'f(42)'),
    ('42', 'x^{42}'), ('42', '\\sqrt{42}'), ('42', '-42'), ('42', 'The remainder when divided by 42'),
    ('42', 'page 42'), ('42', '(42, \\infty)'), ('42', '42!'), ('42', 'x <= 42'), ('42', '(x,y) = (1, 42)'),
    ('42', 'the interval [1, 42)'), ('42', 'a = 41, b = 42'),
]  # fmt: skip
BOLD = [  # words beside a bold number that make another statement of it
    ('42', '**42** squared'), ('42', '**42** tenths'), ('42', 'It is not **42**.'), ('42', 'less than **42**'), ('42', 'half of **42**'),
    ('42', 'minus **42**'), ('42', '**42** dozens'), ('42', 'twice **42**'), ('42', '**42** is wrong.'), ('42', '**42** times two'),
    ('42', 'negative **42**'), ('42', '**42** plus one'), ('42', 'at most **42**'), ('42', '**42** thousand'), ('42', 'The total is **42** hundred dollars.'),
]  # fmt: skip
HEDGED = [  # several answers
    ('42', '\\boxed{41} and/or \\boxed{42}'), ('42', '\\boxed{41}\n\n\\boxed{42}'),
    ('42', '\\boxed{41} \\boxed{42}'), ('42', '$\\boxed{41}$ ou $\\boxed{42}$'),
    ('42', '\\boxed{41} (or \\boxed{42})'), ('42', 'Answer: 41\nAnswer: 42'),
    ('42', 'The answer is 41. The answer is 42.'), ('42', '<answer>41</answer><answer>42</answer>'),
    ('42', '#### 41\n#### 42'), ('42', '**41**\n**42**'), ('42', '1. \\boxed{41}\n2. \\boxed{42}'),
    ('42', '(a) \\boxed{41} (b) \\boxed{42}'), ('42', 'Option 1: 41\nOption 2: 42'),
    ('42', 'either \\boxed{41} or \\boxed{42}'), ('42', '\\boxed{41}; \\boxed{42}'),
    ('42', '\\boxed{41}\\quad\\boxed{42}'), ('42', '\\boxed{41\\text{ or }42}'), ('42', '\\boxed{\\{41,42\\}}'),
    ('42', '\\boxed{41, 42}'), ('42', '\\boxed{42 \\text{ or } 41}'), ('42', '\\boxed{41 \\to 42}'),
    ('42', '\\boxed{41 | 42}'), ('42', '\\boxed{41..42}'), ('42', '\\boxed{x=41 \\vee x=42}'),
    ('42', '\\boxed{\\frac{41}{42}}'), ('42', '\\boxed{41}/\\boxed{42}'), ('42', '41 42'), ('42', '41/42'),
    ('42', '(A) 41 (B) 42'), ('42', 'A) 41\nB) 42\nC) 43'), ('42', '- 41\n- 42\n- 43'),
    ('42', 'The possible answers are 41, 42, 43.'), ('42', '\\boxed{41} oder auch \\boxed{42}'),
    ('42', '\\boxed{41},\\ \\boxed{42}'), ('42', '$$\\boxed{41}$$\n$$\\boxed{42}$$'), ('42', '\\boxed{42 \\mp 1}'),
    ('42', '\\boxed{\\approx 42}? or 41'),
]  # fmt: skip
RETRACTED = [  # answers taken back, or only supposed
    ('42', '\\boxed{42}. Just kidding, it is 41.'), ('42', '\\boxed{42}. Wait, that is wrong.'),
    ('42', '\\boxed{42} (wrong)'), ('42', '\\boxed{42}. Actually it is 41.'),
    ('42', '\\boxed{42}. No, that cannot be right.'), ('42', 'The answer is 42. Scratch that, it should be 41.'),
    ('42', 'If the answer is 42, then we get a contradiction.'), ('42', 'Assume the answer is 42.'),
    ('42', 'The answer is not 42.'), ('42', 'The answer is 42? No.'), ('42', '\\boxed{42}\n\nThis is incorrect.'),
    ('42', '\\boxed{42} ... or maybe not.'), ('42', 'The answer is 42, which is wrong.'),
    ('42', 'My guess of 42 is incorrect.'), ('42', '\\boxed{42}. Sorry, I made a mistake.'),
    ('42', '\\boxed{42}, but that does not satisfy the equation.'), ('42', '\\boxed{42} is not the answer.'),
]  # fmt: skip
UNITS = [  # words beside a number that are no unit, or another
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ dozens}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ nano}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ prime}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ kilo}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ complex}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ infinite}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ degrees below zero}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ mod } 5}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ approx}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ wrong}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ hundredths}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ squared}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ to the power of two}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ and more}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ minus one}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ billion}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ percent}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ ish}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ or so}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ each minus 1}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ half}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ missing}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ not}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42k}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ mega}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ reversed}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ inverted}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ base 8}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ false}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ null}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ double}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ less}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ plus change}}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{42 \\text{ doubled}}$.'),
    ('5 \\text{ miles}', 'Therefore, the final answer is $\\boxed{5 \\text{ square miles}}$.'),
    ('5 \\text{ pounds}', 'Therefore, the final answer is $\\boxed{5 \\text{ kilograms}}$.'),
    ('30^\\circ', 'Therefore, the final answer is $\\boxed{30 \\text{ radians}}$.'),
    ('5^\\circ F', 'Therefore, the final answer is $\\boxed{5^\\circ C}$.'),
    ('5 \\text{ tons}', 'Therefore, the final answer is $\\boxed{5 \\text{ metric tons}}$.'),
    ('5 \\text{ gallons}', 'Therefore, the final answer is $\\boxed{5 \\text{ imperial gallons}}$.'),
    ('10 \\text{ mph}', 'Therefore, the final answer is $\\boxed{10 \\text{ km/h}}$.'),
    ('10 \\text{ m}', 'Therefore, the final answer is $\\boxed{10 \\text{ mm}}$.'),
    ('5 \\text{ ounces}', 'Therefore, the final answer is $\\boxed{5 \\text{ fluid ounces}}$.'),
]  # fmt: skip
BRACKETED = [  # words in brackets behind a number count like words beside it
    ('42', '\\boxed{42 (dozens)}'), ('42', '\\boxed{42 (squared)}'), ('42', '\\boxed{42 (wrong)}'),
    ('42', '\\boxed{42 (not)}'), ('42', '\\boxed{42 (negative)}'), ('42', '\\boxed{42 (base eight)}'),
    ('42', '\\boxed{42 (percent)}'), ('42', '\\boxed{42 (thousand)}'), ('42', '\\boxed{42 (half)}'),
    ('42', '\\boxed{42 (or more)}'), ('42', '\\boxed{42 (times two)}'), ('5 miles', '\\boxed{5 (nautical miles)}'),
    ('11', '\\boxed{11 (twelve)}'), ('11', '\\boxed{twelve (11)}'), ('11', '\\boxed{11 (eleven or twelve)}'),
    ('11', '\\boxed{11 (one)}'), ('11', '\\boxed{1,1 (eleven)}'), ('9 (apples)', '\\boxed{9 (dozens)}'),
    ('42', 'The answer is 42 (squared).'), ('42', '#### 42 (dozens)'), ('42', '<answer>42 (reversed)</answer>'),
    ('4', '\\boxed{4 or 5}'), ('4', '\\boxed{4, 4}'), ('4', '\\boxed{4 or 4.5}'), ('4', '\\boxed{-4 or 4}'), ('4', '\\boxed{4 and 4}'),
]  # fmt: skip
BESIDE = [  # what stands before a colon or an equals sign counts
    ('(1,2)', '\\boxed{(3,4) or: (1,2)}'), ('(1,2)', '\\boxed{42 or 43: (1,2)}'), ('(1,2)', '\\boxed{no solution: (1,2)}'),
    ('(-\\infty,5)', '\\boxed{x<9: (-\\infty,5)}'), ('(1,2)', '\\boxed{all numbers but not: (1,2)}'),
    ('42', '\\boxed{\\text{answer minus one} = 42}'), ('42', '\\boxed{\\text{dozens} = 42}'), ('42', '\\boxed{dozens = 42}'),
    ('42', '\\boxed{\\text{not the answer} = 42}'), ('42', '\\boxed{\\text{half of it} = 42}'), ('42', '\\boxed{\\text{wrong answer} = 42}'),
    ('42', '\\boxed{\\text{twice the value} = 42}'), ('42', '\\boxed{\\text{thousands} = 42}'),
    ('42', '\\boxed{x squared = 42}'), ('42', '\\boxed{\\text{reciprocal of it} = 42}'), ('42', '\\boxed{\\text{answer factorial} = 42}'),
]  # fmt: skip
PARTS = [  # a box that is a part of an expression
    ('42', '$2\\boxed{42}$'), ('42', '$\\boxed{42}^2$'), ('42', '$\\boxed{42}^{-1}$'), ('42', '$\\frac{\\boxed{42}}{2}$'),
    ('42', '$\\frac{1}{\\boxed{42}}$'), ('42', '$\\sqrt{\\boxed{42}}$'), ('42', '$\\boxed{42}{,}000$'), ('42', '\\boxed{42},000'),
    ('42', '$\\boxed{42} \\times 10^3$'), ('42', '$\\boxed{42}\\cdot 2$'), ('42', '$\\boxed{42}+1$'), ('42', '$\\boxed{42}/2$'),
    ('42', '$\\boxed{42}.5$'), ('42', '$0.\\boxed{42}$'), ('42', '$-\\boxed{42}$'), ('42', '$x = -\\boxed{42}$'), ('42', '$1\\boxed{42}$'),
]  # fmt: skip
WRAPPED = [  # separators, names and wrappers
    ('42', '\\boxed{⑷⑵}'), ('42', '\\boxed{４２̸}'), ('42', '\\boxed{㊷}'), ('42', '\\boxed{Ⅳ2}'),
    ('42', '<!-- \\boxed{42} -->'), ('42', '% \\boxed{42}\nI do not know.'),
    ('42', '<monologue>\\boxed{42}</monologue> dunno'), ('42', '<reflection>\\boxed{42}</reflection>'),
    ('42', '<internal>\\boxed{42}</internal> I do not know.'), ('42', '<notes>\\boxed{42}</notes>'),
    ('42', '\\begin{comment}\\boxed{42}\\end{comment}'), ('42', '<hidden>\\boxed{42}</hidden>'),
    ('42', '<cot>The answer is 42</cot> not sure'), ('42', '[scratchpad]\\boxed{42}[/scratchpad]'),
    ('\\text{Area} = 12', 'Therefore, the final answer is $\\boxed{\\text{Volume} = 12}$.'),
    ('\\text{Area} = 12', 'Therefore, the final answer is $\\boxed{\\text{Radius} = 12}$.'),
    ('101,103,107', 'Therefore, the final answer is $\\boxed{101103107}$.'),
    ('(1,234)', 'Therefore, the final answer is $\\boxed{1234}$.'),
    ('1,234,(5,6)', 'Therefore, the final answer is $\\boxed{(1,234),5,6}$.'),
    ('(12,345)', 'Therefore, the final answer is $\\boxed{(12345)}$.'),
    ('x = 5', 'Therefore, the final answer is $\\boxed{y = 5}$.'),
    ('AB = 12', 'Therefore, the final answer is $\\boxed{CD = 12}$.'),
    ('\\angle A = 30', 'Therefore, the final answer is $\\boxed{\\angle B = 30}$.'),
]  # fmt: skip
APPLIED = [  # a function applied is no product
    ('f(x+y)', 'Therefore, the final answer is $\\boxed{f(x)+f(y)}$.'),
    ('g(f(x))', 'Therefore, the final answer is $\\boxed{f(g(x))}$.'),
    ('\\phi(12)', 'Therefore, the final answer is $\\boxed{12\\phi}$.'),
    ('f(2x)', 'Therefore, the final answer is $\\boxed{2f(x)}$.'),
    ('f(0)', 'Therefore, the final answer is $\\boxed{0}$.'),
    ('f(1)', 'Therefore, the final answer is $\\boxed{f}$.'),
    ('\\sigma(6)', 'Therefore, the final answer is $\\boxed{6\\sigma}$.'),
    ('\\tau(12)', 'Therefore, the final answer is $\\boxed{\\tau(3)\\tau(4)}$.'),
    ("f'(x)", 'Therefore, the final answer is $\\boxed{f(x)}$.'),
    ('f(x)g(x)', 'Therefore, the final answer is $\\boxed{g(x)f(x)+0f(x^2)+1}$.'),
    ('f(3)-f(2)', 'Therefore, the final answer is $\\boxed{f(1)}$.'),
    ('P(A)', 'Therefore, the final answer is $\\boxed{P(B)}$.'),
    ('f(f(2))', 'Therefore, the final answer is $\\boxed{f^2(2)}$.'),
    ('h(3)', 'Therefore, the final answer is $\\boxed{3h}$.'),
    ('\\log(x+y)', 'Therefore, the final answer is $\\boxed{\\log x+\\log y}$.'),
]  # fmt: skip
LABELLED = [  # a label counts
    ('C: 12', 'Therefore, the final answer is $\\boxed{C}$.'),
    ('H: 3, T: 5', 'Therefore, the final answer is $\\boxed{H: 4, T: 6}$.'),
    ('A: 5, B: 7', 'Therefore, the final answer is $\\boxed{A: 5, B: 8}$.'),
    ('D: 7', 'Therefore, the final answer is $\\boxed{D: 8}$.'),
    ('A: 5, B: 7', 'Therefore, the final answer is $\\boxed{A: 7, B: 5}$.'),
]  # fmt: skip
EMPTY = [  # statements that say nothing
    ('x=5', 'Therefore, the final answer is $\\boxed{x=x}$.'),
    ('x^2+1', 'Therefore, the final answer is $\\boxed{x^2+1=x^2+1}$.'),
    ('5', 'Therefore, the final answer is $\\boxed{5=5=5=6}$.'),
    ('y=2x', 'Therefore, the final answer is $\\boxed{y=y}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{\\text{forty-three}}$.'),
]  # fmt: skip
KINDS = {
    "lifted": LIFTED,
    "bold": BOLD,
    "hedged": HEDGED,
    "retracted": RETRACTED,
    "units": UNITS,
    "bracketed": BRACKETED,
    "beside": BESIDE,
    "parts": PARTS,
    "wrapped": WRAPPED,
    "applied": APPLIED,
    "labelled": LABELLED,
    "empty": EMPTY,
}


@pytest.mark.parametrize(
    ("reference", "completion"),
    [pytest.param(*row, id=f"{kind}-{at}") for kind, rows in KINDS.items() for at, row in enumerate(rows)],
)
def test_another_statement_is_not_paid(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 0


@pytest.mark.parametrize("reference", sorted({reference for rows in KINDS.values() for reference, _ in rows}))
def test_the_reference_itself_is_paid(reference: str) -> None:
    assert math_answer(Problem("p", "", reference), rf"So it is $\boxed{{{reference}}}$.").value == 1
