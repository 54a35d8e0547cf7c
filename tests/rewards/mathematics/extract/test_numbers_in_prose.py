"""Numbers in prose without a statement: what the words around them say."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

OTHER = [
    ('42', 'not quite 42'), ('42', '40 through 42'), ('42', '42 factorial'), ('42', '42 per cent'), ('42', '42 and change'), ('42', '42 something'),
    ('42', '42 less one'), ('42', '42 times as many as x'), ('42', 'base 42'), ('42', 'the 42nd root'), ('42', '42 pairs'), ('42', '42 score'),
    ('42', 'modulo 42'), ('42', 'Theorem 42'), ('42', 'Figure 42'), ('42', 'version 42'), ('17', '17 to the second'), ('17', '17°F to C'),
    ('17', '17 y'), ('17', '17 i'), ('17', 'log 17'), ('17', '17 pct'), ('17', '17 bps'), ('17', '17 basis points'), ('17', '17 K'), ('17', '17 bn'),
    ('17', '17 lakh'), ('17', '17 doz'), ('17', '17 gross'), ('17', '17 couples'), ('17', '17th root'), ('17', '17 root'), ('17', '17 factorial'),
    ('17', '17!!'), ('17', '017 octal'), ('17', '17 in hexadecimal'), ('17', 'No 17'), ('17', 'Nr. 17'), ('17', 'p. 17'), ('17', 'pp. 17'),
    ('17', 'ch. 17'), ('17', 'eq. (17)'), ('17', 'see [17]'), ('17', 'footnote 17'), ('17', 'Lemma 17'), ('17', 'Section 17'), ('17', 'Appendix 17'),
    ('17', 'f 17'), ('17', '\\frac12 17'), ('17', '17 onwards'), ('17', '17 and up'), ('17', '17 and above'), ('17', '17 and below'),
    ('17', '17 upwards'), ('17', '17 or above'), ('17', '17 or below'), ('17', '17 or greater'), ('17', '17 at least'), ('17', '17 at most'),
    ('17', '17 max'), ('17', '17 minimum'), ('17', 'a minimum of 17'), ('17', 'a maximum of 17'), ('17', 'as many as 17'),
    ('17', 'up to and including 17'), ('17', 'near 17'), ('17', 'a number like 17'), ('17', 'a number such as 17'), ('17', 'numbers like 17'),
    ('17', 'e.g. 17'), ('17', 'for example 17'), ('17', 'for instance 17'), ('17', 'such as 17'), ('17', 'including 17'), ('17', '17 among others'),
    ('17', '17, etc.'), ('17', '17 etc'), ('17', '17, ...'), ('17', '..., 17'), ('17', '17 halved'), ('17', '17 inverted'), ('17', '17 negated'),
    ('17', '17 reversed'), ('17', '17 backwards'), ('17', '17 times as much as y'), ('17', '17 smaller than x'), ('17', 'y less 17'),
    ('17', 'y mod 17'), ('17', '{1, ..., 17}'), ('17', '1, 2, ..., 17'), ('17', '1 through 17'), ('17', '1 thru 17'), ('17', 'first 17'),
    ('17', 'the first 17'), ('17', 'the last 17'), ('17', 'the 17 first primes'), ('17', 'the 17th'), ('17', 'Given 17'), ('17', 'Given: 17'),
    ('17', 'Let x = 17'), ('17', 'Let n be 17'), ('17', 'Take 17'), ('17', 'Try 17'), ('17', 'Trying 17'), ('17', 'Consider 17'), ('17', 'Test 17'),
    ('17', 'when x = 17'), ('17', 'where x = 17'), ('17', 'for x = 17'), ('17', 'with x = 17'), ('17', 'since x = 17'), ('17', 'because 17'),
]  # fmt: skip
SAME = [
    ('17', 'She has 17 apples left.'), ('17', 'There are 17 of them.'), ('17', 'So he paid $17.'), ('17', 'He needs 17 more.'),
    ('17', '17 students remain.'), ('17', 'The cost is $17 in total.'), ('17', 'It takes 17 days.'), ('17', 'Therefore they sold 17 boxes.'),
    ('17', 'They have 17 in all.'), ('17', 'In total there are 17.'), ('17', 'So, the result: 17'), ('17', 'x=17'), ('17', 'Hence x = 17.'),
    ('17', 'So n must be 17.'), ('17', 'We conclude that n = 17.'), ('17', 'which gives 17.'), ('17', 'that makes 17.'),
    ('17', 'So the remainder is 17.'), ('17', 'so 17.'), ('17', '17'), ('17', '17.'), ('17', '17 apples'), ('17', '17 dollars'), ('17', '$17'),
    ('17', '**17**'), ('17', '***17***'), ('17', '`17`'), ('17', '"17"'), ('17', 'Total: 17'), ('17', 'Total = 17'), ('17', '= 17'), ('17', '≈ 17'),
    ('17', 'The number is 17.'), ('17', 'This leaves 17 people.'), ('17', 'The area equals 17 square units.'), ('17', 'The sum is 17, as required.'),
    ('17', 'Their difference is 17.'), ('17', 'Tom drove 17 miles.'), ('17', 'Anna threw 17 balls.'), ('17', 'They drank 17 cups.'),
    ('17', 'With the coupon it costs 17.'), ('17', 'Finally, p = 17.'), ('17', 'Since 20 - 3 = 17, she has 17 apples.'),
    ('17', 'After that, there are 17 birds left.'), ('17', 'By the end, Jim had 17 cards.'), ('42', 'Assuming uniform speed, the answer is 42.'),
    ('42', 'If we add all of these, the answer is 42.'), ('42', 'If there are 40 and 2 more, the total is 42.'),
    ('17', 'There were 17 children at the party.'), ('17', 'If she sells all of them, she earns $17.'),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "completion"), OTHER)
def test_a_number_in_another_statement_is_no_answer(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 0


@pytest.mark.parametrize(("reference", "completion"), SAME)
def test_a_sentence_states_its_number(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 1
