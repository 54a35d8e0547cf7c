"""Answers that are taken back, and remarks that take nothing back."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

RETRACTED = [
    ('42', '\\boxed{42}. I retract that.'), ('42', '\\boxed{42}. This cannot be the answer.'), ('42', '\\boxed{42}. Edit: it is 43.'),
    ('42', '\\boxed{42}. Oops.'), ('42', '\\boxed{42}. Sorry, 43.'), ('42', '\\boxed{42}. I mean 43.'), ('42', '\\boxed{42}. Make that 43.'),
    ('42', '\\boxed{42}. No!'), ('42', '\\boxed{42} is a wrong answer.'), ('42', "\\boxed{42} isn't the answer."),
    ('42', '\\boxed{42} does not work.'), ('42', '\\boxed{42} fails.'), ('42', '\\boxed{42} contradicts the condition.'),
    ('42', 'The wrong answer is \\boxed{42}.'), ('42', 'A wrong answer: \\boxed{42}'), ('42', 'An incorrect result would be \\boxed{42}.'),
    ('42', 'Suppose the answer is \\boxed{42}.'), ('42', 'If it were \\boxed{42}, we would have a contradiction.'),
    ('42', 'Let us guess \\boxed{42}.'), ('42', "The answer might have been 42 but it isn't."), ('42', 'The answer is wrong 42.'),
    ('42', '<answer>42</answer> is wrong.'), ('42', 'I doubt that it is 42.'), ('42', 'It is hardly 42.'), ('42', 'It is unlikely to be 42.'),
    ('42', 'You might think it is 42, but it is not.'), ('42', 'My friend says 42, but she is wrong.'), ('42', '答案不是42'),
    ('17', '\\boxed{17}. Let me correct that: 18.'), ('17', '\\boxed{17}. The above answer is wrong.'),
    ('17', '\\boxed{17}. The previous answer is incorrect.'), ('17', '\\boxed{17}. My answer is wrong.'),
    ('17', '\\boxed{17}. Do not trust this answer.'), ('17', '\\boxed{17}. (This is a wrong answer.)'), ('17', '\\boxed{17} [incorrect]'),
    ('17', '\\boxed{17} (not correct)'), ('17', '\\boxed{17} (this is false)'), ('17', '\\boxed{17} ← wrong'), ('17', '\\boxed{17} ✗'),
    ('17', '\\boxed{17} ❌'), ('17', '\\boxed{17}, wait, 18'), ('17', '\\boxed{17}. Hmm, 18 rather.'), ('17', '\\boxed{17}. Rather, 18.'),
    ('17', '\\boxed{17}. Actually 18.'), ('17', '\\boxed{17}. Actually, no.'), ('17', '\\boxed{17}. The answer is not that.'),
    ('17', '\\boxed{17}. It should have been 18.'), ('17', '\\boxed{17}. It ought to be 18.'), ('17', '\\boxed{17}. It must be 18.'),
    ('17', '\\boxed{17}. It is really 18.'), ('17', '\\boxed{17}. We reject this.'), ('17', '\\boxed{17}. We discard this.'),
    ('17', '\\boxed{17} is excluded.'), ('17', '\\boxed{17} is ruled out.'), ('17', '\\boxed{17} is not allowed.'),
    ('17', '\\boxed{17} cannot be right.'), ('17', '\\boxed{17} cannot be the answer.'), ('17', "\\boxed{17} can't be."),
    ('17', '\\boxed{17} turned out to be wrong.'), ('17', '\\boxed{17} turns out to be incorrect.'), ('17', '\\boxed{17} is off by one.'),
    ('17', '\\boxed{17} is a trap.'), ('17', '\\boxed{17} is a lie.'), ('17', '\\boxed{17} is a mistake.'), ('17', '\\boxed{17} is an error.'),
    ('17', '\\boxed{17} is only a guess.'), ('17', '\\boxed{17} lol no'), ('17', 'It is no \\boxed{17}'), ('17', 'All but \\boxed{17}'),
    ('17', 'Everything other than \\boxed{17}'), ('17', 'instead of \\boxed{17}'), ('17', 'rather than \\boxed{17}'),
    ('17', 'different from \\boxed{17}'), ('17', 'other than \\boxed{17}'), ('17', 'unequal to \\boxed{17}'),
    ('17', 'Someone wrongly claimed \\boxed{17}.'), ('17', 'They mistakenly got \\boxed{17}.'), ('17', 'The incorrect answer would be \\boxed{17}.'),
    ('17', 'A common mistake is \\boxed{17}.'), ('17', 'A common wrong answer is \\boxed{17}.'), ('17', 'Assume it equals \\boxed{17}.'),
    ('17', 'For the sake of argument, say it is \\boxed{17}.'), ('17', 'The answer is 17... or rather 18.'), ('17', '#### 17, which is wrong'),
    ('17', '**17** — incorrect'), ('17', "It's wrong that it is 17."), ('17', 'It is false that x = 17.'), ('17', 'x = 17 does not work.'),
    ('17', 'x = 17 fails'), ('17', '$17$ does not work.'), ('17', 'Reject 17.'), ('17', 'Exclude 17.'), ('17', 'except for 17'),
    ('17', 'I reject 17'), ('17', '不是17'), ('17', '答案不等于17'), ('17', '\\boxed{17}不对'), ('17', '\\boxed{17}是错的'),
    ('17', '\\boxed{17} is what a fool would say.'), ('17', '\\boxed{17} is what most people would answer.'),
    ('17', 'One might think the answer is \\boxed{17}, but that ignores the boundary.'), ('17', 'Students may first guess \\boxed{17}.'),
    ('17', '\\boxed{17} is only a format example.'), ('17', '\\boxed{17}\nThe above is a template; I have no answer.'),
    ('17', '\\boxed{17}. I give up.'), ('17', '\\boxed{17}, said no one.'), ('17', 'Nobody believes \\boxed{17}.'),
    ('17', 'The answer is 17 if lucky.'), ('17', 'The answer is 17 if I am right.'), ('17', '\\boxed{17} if lucky.'),
    ('17', 'I refuse to say \\boxed{17}.'), ('17', '\\boxed{17}, but I refuse.'), ('17', 'I do not know the answer. 17 students'),
    ('17', '\\boxed{17}. The answer is not 17.'), ('25', '至少25个'), ('25', '不到25'),
]  # fmt: skip
KEPT = [
    ('17', '\\boxed{17} or, equivalently, $\\boxed{17}$.'), ('17', '\\boxed{17}\n\nNote that the case n=0 is impossible.'),
    ('17', '\\boxed{17}\n\nThe case x=-1 is rejected.'), ('17', '\\boxed{17}.\n\nThis is a nice problem.'),
    ('17', '\\boxed{17} is what we get.'), ('17', '\\boxed{17} is what the clock will say.'),
    ('17', '\\boxed{17}.\n\nThis is the only value that works.'), ('17', '\\boxed{17}.\n\nIt is easy to check.'),
    ('17', '\\boxed{17}.\n\nThat is the number of students.'), ('17', '\\boxed{17}.\n\nIt must be an integer, and it is.'),
    ('17', '\\boxed{17}.\n\nIt is important not to forget the last step.'), ('17', '\\boxed{17}.\n\nThe mistake many make is to forget the zero.'),
    ('17', '\\boxed{17}.\n\nWe reject the negative root.'), ('17', '\\boxed{17}.\n\nI made sure to double check.'),
    ('17', '\\boxed{17}.\n\nSorry for the long solution!'), ('17', '\\boxed{17}.\n\nNo calculator is needed.'),
    ('17', '\\boxed{17}.\n\nActually there is a shorter way.'), ('17', '\\boxed{17}.\n\nWait, let me double-check: 20-3 = 17. Yes.\n\n\\boxed{17}'),
    ('17', '\\boxed{17}\n\nCorrectness: we verified that it fits.'), ('42', '\\boxed{42}\n\nThe answer is exact.'),
    ('42', '\\boxed{42}\n\nThe answer is positive.'), ('42', '\\boxed{42}\n\nThe answer is the sum of 40 and 2.'),
    ('42', '\\boxed{42}\n\nNot only that, it is the only solution.'),
    ('17', '\\boxed{17} is an example of a prime.'), ('17', 'One might think that 0 counts, so the answer is \\boxed{17}.'),
    ('17', 'The answer is 17 if we count both ends.'), ('17', 'The answer is not 16. The answer is 17.'), ('25', '一共需要25个'),
    ('73', 'Final Answer: ✅ **73**'), ('D', 'I would choose option D because it satisfies both.'),
    ('42', '{"answer": 42, "confidence": 0.9}'), ('42', '{"answer": "42", "explanation": "6*7"}'),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "completion"), RETRACTED)
def test_an_answer_taken_back_is_none(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 0


@pytest.mark.parametrize(("reference", "completion"), KEPT)
def test_a_remark_takes_nothing_back(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 1
