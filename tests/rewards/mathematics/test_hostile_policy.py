"""Texts of a hostile policy for an answer of 42, and of an honest one: hedges, retractions, other statements."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

BOXED = [  # question, reference, right answers, wrong ones
    ('', '42', ['42\\text{ ways}', '42\\text{ apples}', '42\\text{ students}', '42\\text{ dollars}', '42\\text{ cm}', '42\\text{ m/s}',
     '42\\text{ people}', '42\\text{ integers}', '42\\text{ solutions}', '42\\text{ square units}', '42\\text{ units}', '42\\text{ hours}',
     '42\\text{ minutes}', '42\\text{ units^2}'], ['42\\text{ short}', '42\\text{ negative}', '42\\text{ imaginary}',
     '42\\text{ undefined}', '42\\text{ approx}', '42\\text{ micro}', '42\\text{ nano}', '42\\text{ femto}', '42\\text{ thousand}',
     '42\\text{ times ten}', '42\\text{ or more}', '42\\text{ or less}', '42\\text{ and change}', '42\\text{ wrong}', '42\\text{ maybe}',
     '42\\text{ not}', '42\\text{ base 7}', '42\\text{ mod 9}', '42\\text{ factorial}', '42\\text{ squared}', '42\\text{ root}',
     '42\\text{ recurring}', '42\\text{ repeating}', '42\\text{ reversed}', '42\\text{ percent}', '42\\text{ pct}', '42\\text{ dozen}',
     '42\\text{ pairs}', '42\\text{ score}', '42\\text{ lakh}', '42\\text{ octal}', '42\\text{ binary}', '42\\text{ hex}',
     '42\\text{ per hundred}', '42\\text{ out of 100}', '42\\text{ too many}', '42\\text{ too few}', '42\\text{ off}', '42\\text{ down}',
     '42\\text{ minus two}', '42\\text{ plus two}', '42\\text{ below zero}', '42\\text{ hundredths}', '42\\text{ to the third}',
     '42\\text{ remaining zero}', '42\\text{ divided by 2}', '42\\text{ halved}', '42\\text{ tripled}', '42\\text{ fold}',
     '42\\text{ sided}', '42\\text{ nd root}', '42\\text{ degrees off}']),
    ('How many apples does Tom have?', '42', [], ['42\\text{ short}', '42\\text{ negative}', '42\\text{ imaginary}', '42\\text{ undefined}',
     '42\\text{ approx}', '42\\text{ micro}', '42\\text{ nano}', '42\\text{ femto}', '42\\text{ thousand}', '42\\text{ times ten}',
     '42\\text{ or more}', '42\\text{ or less}', '42\\text{ and change}', '42\\text{ wrong}', '42\\text{ maybe}', '42\\text{ not}',
     '42\\text{ base 7}', '42\\text{ mod 9}', '42\\text{ factorial}', '42\\text{ squared}', '42\\text{ root}', '42\\text{ recurring}',
     '42\\text{ repeating}', '42\\text{ reversed}', '42\\text{ percent}', '42\\text{ pct}', '42\\text{ dozen}', '42\\text{ pairs}',
     '42\\text{ score}', '42\\text{ lakh}', '42\\text{ bits}', '42\\text{ octal}', '42\\text{ binary}', '42\\text{ hex}',
     '42\\text{ per hundred}', '42\\text{ out of 100}', '42\\text{ too many}', '42\\text{ too few}', '42\\text{ off}', '42\\text{ down}',
     '42\\text{ minus two}', '42\\text{ plus two}', '42\\text{ below zero}', '42\\text{ hundredths}', '42\\text{ to the third}',
     '42\\text{ remaining zero}', '42\\text{ divided by 2}', '42\\text{ halved}', '42\\text{ tripled}', '42\\text{ fold}',
     '42\\text{ sided}', '42\\text{ nd root}', '42\\text{ degrees off}']),
]  # fmt: skip
WHOLE = [  # the same with whole completions
    ('', '42', ['\\boxed{42}\n\nI hope it is correct.', '\\boxed{42}. This is the number of apples.', 'Thus \\boxed{42}, as required.',
     '\\boxed{42}\n\n(We checked 41 and 43 as well.)', 'So we have \\boxed{42} apples.', 'Not 41 but \\boxed{42}.',
     'It is not 41; it is \\boxed{42}.', 'The answer is not 41, it is 42.', 'Instead of 41, we get \\boxed{42}.',
     'I first thought \\boxed{41}, but that is wrong. The answer is \\boxed{42}.', '\\boxed{42} ✓', '\\boxed{42} ✅', '✅ \\boxed{42}',
     '**\\boxed{42}**', '> \\boxed{42}', '| Answer | \\boxed{42} |', 'The answer is 42!', 'The answer is: 42', 'The answer is **42**.',
     'The answer is $42$, since $6\\cdot7=42$.', 'Answer: 42 (forty-two)', 'Answer:\n42', 'Answer:\n\n$$42$$', 'Final Answer: $42$',
     'FINAL ANSWER: 42', 'final answer is 42 apples', 'Ans: 42', 'Ans. 42', 'ans = 42', 'Result: 42', 'The result is 42.',
     'The value is 42.', 'Solution: 42', 'Output: 42', 'So, 42.', '= 42', '6*7 = 42', '6 × 7 = 42.', '6\\cdot 7=42', '42.', '42',
     'forty-two', 'The total is 42', 'Hence, the total number of apples is 42.', '\\boxed{42}\n```', '```\n\\boxed{42}\n```',
     '<|im_start|>assistant\n\\boxed{42}<|im_end|>', '\\boxed{42}<|endoftext|>', '\\boxed{42}</s>', '\\fbox{42}', '\\boxed{\\boxed{42}}',
     '\\boxed{x=42}', '\\boxed{x = 42.}', '\\boxed{42\\ }', '\\boxed{+42}', '\\boxed{042}', '\\boxed{42.0}', '\\boxed{\\mathrm{42}}',
     '\\boxed{\\text{42}}', '\\boxed{\\text{The answer is 42}}', '\\boxed{\\text{forty two}}', '\\boxed{\\displaystyle 42}',
     '\\boxed{\\Large 42}', '\\boxed{\\color{red}42}', '\\boxed{\\textcolor{red}{42}}', '\\boxed{\\underline{42}}',
     '\\boxed{\\quad 42 \\quad}'], ['42 and a third', '42 and counting', 'x ≥ 42 is a bound', '-42', '42 - 1', '42 dozen', '42%', '1/42',
     '42/7', '42:7', 'x^42', '42!', '√42', '|42|+1', '42..43', '42-43', '42–45', '~42 or so', '42ish', '42+', '42 +/- 1', '≤ 42', '42 ≤ x',
     'below 42', 'just under 42', 'close to 42', 'about 42 or 43', 'forty-two or forty-three', '42 (mod 50)', '42 mod 5', 'base 42',
     '42 in base 8', '42_8', '42nd root', 'the 42nd term', 'every 42', 'any multiple of 42', 'a divisor of 42', 'factors of 42',
     'divides 42', '42 choose 2', 'log 42', 'sin 42', 'f(42) = 7', 'g(42)', '(42)(2)', '42(2)', '42x', '42 x', '42i', '42 i', '42e', '42π',
     '42 pi', '42 degrees below zero', '42 under par', 'minus 42', 'negative 42', 'not 42', 'never 42', "isn't 42", "can't be 42",
     'no longer 42', 'far from 42', 'anything but 42', 'all but 42', 'except 42', 'other than 42', 'instead of 42', 'rather than 42',
     'unless 42', 'if 42', 'maybe 42', 'perhaps 42?', 'could be 42', '42?', '42 ?', 'Is it 42?', 'is the answer 42?', 'would 42 work?',
     'why not 42?', '42 or 24', '42 and 24', '24 and 42', '24, 42', '42, 24', 'either 42 or not', '42 if n is even, 43 otherwise',
     'between 42 and 42.5', '42 to 43', 'from 42', 'since 42', 'until 42', 'after 42', 'before 42', 'over 42', 'more than 42',
     'fewer than 42', 'at most 42', 'at least 42', 'up to 42', 'no more than 42', 'as many as 42', 'exceeds 42', 'twice 42', 'half of 42',
     '42 doubled', '42 squared', '42 cubed', '42 halves', '42 thirds', '42 tenths', '42 hundredths', '42 thousandths', '42 thousand', '42k',
     '42K', '42 million', '42M', '42 bn', '42e1', '42E2', '4.2e2', '42 x 10^3', '42 * 10', '42 times ten', 'ten times 42', '42 times more',
     '42 percent', '42 per cent', '42 permille', '42 bps', '42 basis points', '42 ppm', 'hex 42', '0x42', 'octal 42', 'binary 42',
     '42 reversed', 'reverse 42', '42 backwards', '42 upside down', '42 negated', 'the opposite of 42', 'the reciprocal of 42',
     'the square of 42', 'the square root of 42', 'the sum of digits of 42', 'digits of 42', 'the last digit of 42', 'the first 42',
     'No. 42', 'question 42', 'problem 42', 'page 42', 'step 42', 'case 42', 'line 42', 'chapter 42', 'Theorem 42', 'Figure 42', '(42]',
     '{42, 43}', '(42, 0)', '42, 0', '<42', '42>x', 'x<42', '42<x', 'x>42', 'x=\\pm 42', '±42', '42 ± 1', '\\boxed{41}\\boxed{42}',
     '\\boxed{42}\\boxed{41}', '\\boxed{41}, or \\boxed{42}', '\\boxed{41}; or else \\boxed{42}.', '\\boxed{41} \\text{ or } \\boxed{42}',
     '$\\boxed{41}\\;\\text{or}\\;\\boxed{42}$', '\\boxed{41} | \\boxed{42}', '\\boxed{41} & \\boxed{42}', '\\boxed{41}\\\\\\boxed{42}',
     '\\boxed{41} \\lor \\boxed{42}', '\\boxed{41} ∨ \\boxed{42}', '\\boxed{41 \\lor 42}', '\\boxed{41 \\; 42}', '\\boxed{41 / 42}',
     '\\boxed{\\text{41 or 42}}', '\\boxed{41?\\ 42?}', '\\boxed{41,42}', '\\boxed{[41,42]}', '\\boxed{41\\sim42}',
     '\\boxed{41 \\leq x \\leq 42}', '\\boxed{x=41,42}', '\\boxed{x\\in\\{41,42\\}}', '\\boxed{41\\text{ if even, }42\\text{ otherwise}}',
     '\\boxed{\\begin{cases}41\\\\42\\end{cases}}', '\\boxed{\\begin{pmatrix}41\\\\42\\end{pmatrix}}',
     '\\boxed{41}\n\\boxed{42}\n\\boxed{43}', '1) \\boxed{41}\n2) \\boxed{42}', 'First answer: \\boxed{41}\nSecond answer: \\boxed{42}',
     'Answer 1: \\boxed{41}\nAnswer 2: \\boxed{42}', 'My answers are \\boxed{41} and \\boxed{42}.',
     'It is \\boxed{41}. It is also \\boxed{42}.', '\\boxed{41} (alternatively \\boxed{42})', '\\boxed{41} [or \\boxed{42}]',
     '\\boxed{41} - \\boxed{42}', '\\boxed{41} to \\boxed{42}', '<answer>41</answer> <answer>42</answer>', '<answer>41 or 42</answer>',
     '<answer>41\n42</answer>', '<answer>41; 42</answer>', '#### 41, 42', '#### 41 42', '#### 41/42', '####41\n####42',
     'The answer is 41, 42.', 'The answer is 41 (or 42).', 'The answer is either 41 or 42.', 'The answer is 41 and the answer is 42.',
     'Final answer: 41. Final answer: 42.', 'The final answer is 41\nThe final answer is 42',
     'The answer could be 41, or the answer could be 42.', '**41** / **42**', '**41**, **42**', '**41** or **42**', 'Answer: 41 | 42',
     'Answers: 41, 42', 'Answer: [41, 42]', 'Answer: {41, 42}', 'answer = 41 or 42', '{"answer": [41, 42]}', '{"answer": "41 or 42"}',
     '{"answer": 41}\n{"answer": 42}', '41\n42', '41\n\n42', '- 41\n- 42', '41 or 42?', 'x = 41 or x = 42', 'x=41, x=42', 'x = 41; x = 42',
     'n is 41 or 42', 'It is 41, maybe 42', '(41, 42)', '41 ~ 42', '41 ≤ x ≤ 42', '40 + 1 or 40 + 2', 'between 41 and 42', '$41$ or $42$',
     '$41$, $42$', '$$41$$ $$42$$', '\\[41\\]\\[42\\]', 'The answer is $41$ or $42$.', 'The answer is $41$; $42$.',
     'The answer is $\\{41, 42\\}$.', '答案是41或42', '答案：41，42', '答案是41。答案是42。', '\\boxed{41}或\\boxed{42}', '\\boxed{41}、\\boxed{42}',
     '\\boxed{41}，\\boxed{42}', '\\boxed{42}. No wait.', '\\boxed{42} is not correct.', '\\boxed{42}, which is wrong.',
     "\\boxed{42}... that's a lie.", '\\boxed{42} — I take that back.', '\\boxed{42}. I was joking.',
     '\\boxed{42}\n\nThat is not my answer.', '\\boxed{42}. Ignore that.', '\\boxed{42}. Disregard the above.',
     '\\boxed{42}. My real answer is 41.', '\\boxed{42}. But the correct answer is 41.', '\\boxed{42}. The true answer is \\boxed{41}.',
     "I don't think it is \\boxed{42}.", "It's definitely not \\boxed{42}.", "The answer isn't \\boxed{42}.",
     "The answer can't be \\boxed{42}.", 'The answer cannot be \\boxed{42}', '\\boxed{42} would be wrong.', '\\boxed{42}? No.',
     '\\boxed{42} (incorrect)', '\\boxed{42} ✗', '\\boxed{42} ❌', 'Wrong: \\boxed{42}', 'Incorrect answer: \\boxed{42}',
     'A wrong answer would be \\boxed{42}.', 'One might think \\boxed{42}, but no.', 'Many would say \\boxed{42}, but they are wrong.',
     'If it were \\boxed{42}, we would have a contradiction.', 'Suppose it is \\boxed{42}. Contradiction.', 'Assume \\boxed{42}.',
     '\\boxed{42} contradicts the assumption.', '\\boxed{42} fails.', '\\boxed{42} does not satisfy the equation.',
     '\\boxed{42} must be rejected.', 'We reject \\boxed{42}.', 'Hence \\boxed{42} is extraneous.', '\\boxed{42}, just kidding',
     '\\boxed{42}. Sorry, \\boxed{41}.', '\\cancel{\\boxed{42}}', '~~\\boxed{42}~~', '<s>\\boxed{42}</s>', '<del>\\boxed{42}</del>',
     '\\sout{\\boxed{42}}', '\\st{42}', '\\boxed{\\cancel{42}}', '\\boxed{\\sout{42}}', '\\boxed{\\not 42}', '\\boxed{\\neg 42}',
     '\\boxed{\\text{not } 42}', '\\boxed{\\neq 42}', '\\boxed{\\ne 42}', '\\boxed{42 \\text{ (wrong)}}', '\\boxed{42 \\text{?}}',
     '\\boxed{42?}', '\\boxed{42 !=}', '\\boxed{x \\ne 42}', '\\boxed{\\overline{42}}']),
    ('What is 47 + 12?', '59', ['59', '47 + 12 = 59', 'The sum of 47 and 12 is 59.', '47 and 12 make 59.', 'Adding 47 and 12 gives 59.',
     'It equals 59.', "I think it's 59.", 'A: 59', 'Answer: 59', 'Sure! 47 + 12 = 59.', '47 plus 12 is 59.', '47 plus 12 equals 59.',
     'The result of adding 47 and 12 is 59.', '59 is the answer.', "That's 59!", 'Sure, the answer is 59.', 'The total comes to 59.',
     "It's 59.", 'You get 59.', 'We get 59', 'The correct sum is 59.', 'If you add 47 and 12, you get 59.', "Let's add: 47 + 12 = 59",
     'Step 1: 7+2=9. Step 2: 40+10=50. So the sum is 59.', '40+10=50, 7+2=9, 50+9=59', '50 + 9 = 59.', '= 59', ' 59\n'], ['47 + 12 = 60',
     '58 or 59', '59?', 'Not 59', '47 + 12', '59 reasons', 'I have 59 apples.', 'I am 59.', 'There are 59 ways to add.']),
    ('Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did Natalia sell altogether in April and May?',
     '72', ['Natalia sold 48+24 = 72 clips altogether in April and May.', 'She sold 72 clips.', 'She sold 72.',
     'In total, she sold 72 clips altogether.', 'Therefore 72 clips were sold.', '72 clips', 'Total clips = 72',
     'So, Natalia sold a total of 72 clips in both months.', 'Altogether: 72', '48 + 24 = 72', 'The total number of clips is 72',
     "Natalia's total is 72."], ['Mary has 72 apples.', '72 friends laughed.', 'There are 72 hours in three days.', 'Page 72',
     'My grade is 72.', 'This is problem 72.', 'The temperature is 72.', 'I counted 72 letters in the question.']),
    ('A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take?', '3',
     ['It takes 2+1=3 bolts of fabric.', 'So the total is 3.', 'It takes 3 bolts in total', '3 bolts',
     'The total amount of fabric is 2+1=3 bolts of fabric'], []),
]  # fmt: skip


def verdict(question: str, reference: str, completion: str) -> bool:
    return math_answer(Problem("p", question, reference), completion).value == 1


@pytest.mark.parametrize(("question", "reference", "right", "wrong"), BOXED)
def test_a_word_beside_the_number_counts(question: str, reference: str, right: list[str], wrong: list[str]) -> None:
    paid = {a: verdict(question, reference, f"Therefore, the final answer is $\\boxed{{{a}}}$.") for a in right + wrong}
    assert [a for a in right if not paid[a]] == []
    assert [a for a in wrong if paid[a]] == []


@pytest.mark.parametrize(("question", "reference", "right", "wrong"), WHOLE)
def test_only_a_statement_is_paid(question: str, reference: str, right: list[str], wrong: list[str]) -> None:
    assert [t for t in right if not verdict(question, reference, t)] == []
    assert [t for t in wrong if verdict(question, reference, t)] == []
