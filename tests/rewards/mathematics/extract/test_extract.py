"""The part of a text that is its final answer."""

import time

import pytest

from rewards.math_answer import check_answers, math_answer
from rewards.mathematics.extract.final_answer import extract_answer, reference_answer
from rewards.types import Outcome, Problem

STATED = [
    ("so \\boxed{42}.", "42"), ("\\boxed{\\frac{1}{2}} is it", "\\frac{1}{2}"), ("first \\boxed{1}, then \\boxed{2}", "2"),
    ("\\boxed{1} and \\boxed{-2}", "1, -2"), ("\\boxed{42} but \\boxed{43", "42"), ("\\fbox{7}", "7"), ("\\boxed {7}", "7"),
    ("work\n#### 18", "18"), ("#### 1,234\n", "1,234"), ("#### Step 1: add 5\nThe answer is 9.", "9"), ("#### 5\n#### 6", "5, 6"),
    ("### Answer\n#### Final Answer:\n12", "12"), ("The answer is 5.", "5"), ("The final answer is: $\\frac{3}{4}$.", "\\frac{3}{4}"),
    ("Answer: 7", "7"), ("**Answer:** 7", "7"), ("**Answer**: 7 dollars", "7 dollars"), ("The answer is **7**.", "7"), ("the answer is $18.", "$18"),
    ("The answer is 5 because 2 + 3 = 5.", "5"), ("the answer is 3.5 miles", "3.5 miles"), ("The answer is \\boxed{5}. I hope it is correct.", "5"),
    ("<answer>12</answer>", "12"), ("<think>so 5</think> <answer> \\boxed{6} </answer>", "6"), ("The answer to the question is 9.", "9"),
    ("<think>The answer is 4</think>The answer is 5", "5"), ("thinking ... </think> 6", "6"), ("The answer is:\n\n$$x = 5$$", "x = 5"),
    ("She has **18 eggs** in the end, I think.", "18 eggs"), ("2 + 3 = 5", "5"), ("so x = 5", "5"), ("it costs $1,250.50.", "$1,250.50"),
    ("thus the area is $\\frac{3}{4}$.", "\\frac{3}{4}"), ("She sells 9 eggs and makes 9 * 2 = $18 every day", "$18"), ("so 3/4 of them", "3/4"),
    ("5 hours * 60 = 300 minutes in total", "300"), ("\\boxed{5}. The answer is 6.", "5, 6"), ("that is 25 %", "25 %"), ("about 5 million people", "5 million"),
    ("Final answer: A", "A"), ("The correct answer is (C).", "(C)"), ("The answer is option B.", "B"), ("it is 1 1/2 cups", "1 1/2"), ("so -5", "-5"), ("so x is \\pm 5", "\\pm 5"), ("so ± 5", "± 5"), ("\\boxed{44}. Let us check our answer: $17 * 2 = 34$.", "44"), ("\\boxed{44}, so our answer is correct.", "44"),
    ("The answer is 5. Thus the answer is indeed right.", "5"),
    ("The answers are 1 and 2.", "1 and 2"), ("So it is 17 or 18", "17, 18"), ("so $x=1$ or $x = 2$.", "x=1, x = 2"), ("x = 3 and y = 5", "5"), ("**18** or **19**", "18, 19"), ("C", "C"), ("**Yes**", "Yes"),
    ("The correct option is **(C)**.", "(C)"), ("The answer is 18? No, it is 19.", "19"), ("\\boxed{\\text{The answer is } 2}", "2"), ("The final result is 5.\n\nDo you need 3 more?", "5"),
    ("Final Answer: 5 apples (since 2 + 3 = 5)", "5 apples"), ('{"answer": 5}', "5"), ("<think>5</think><answer>6", "6"), ("9 * 2 = $<<9*2=18>>18 a day", "$18"), ("½", "½"),
    ("the answer is therefore 5.", "5"),
    ("The answer is **42** apples.", "42 apples"), ("The answer is 2**3.", "2**3"), ("The answer is **2**3.", "2**3"),
    # several guesses are no answer of the last one
    ("\\boxed{43} or maybe \\boxed{42}", "43, 42"), ("\\boxed{43}. Or \\boxed{42}.", "43, 42"), ("\\boxed{43} | \\boxed{42}", "43, 42"), ("41 or perhaps 42", "41, 42"), ("it is 41; 42", "41, 42"),
    ("The answer is\n42\n43", "42, 43"), ("The answer is 42,\n43", "42, 43"), ("The answer is 42\n\n$42$", "42"), ("The answer is 42 if x > 0, otherwise 43.", "42 if x > 0, otherwise 43"), ("42 42", "42"),
    # what is taken back
    ("\\boxed{43}. It is not \\boxed{42}", "43"), ("\\boxed{42}. Is it \\boxed{43}?", "42"), ("at most \\boxed{42} are left", "42"),
    ("<|channel|>analysis<|message|>\\boxed{1}<|channel|>final<|message|>\\boxed{2}", "2"), ("[THINK]\\boxed{1}[/THINK] 2", "2"), ("<|begin_of_thought|>1<|end_of_thought|>2", "2"),
]  # fmt: skip

NOTHING = [
    "",
    "I do not know.",
    "<think>5 + 5 = 10, so the answer is \\boxed{10}",
    "?!",
    "\\boxed{",
    "\\boxed{}",
    "<think></think>",
    "It cannot be 10",
    "I think that it isn't $10$",
    "It is not \\boxed{10}",
    "\\boxed{10} is incorrect.",
    "Is it \\boxed{10}?",
    "10?",
    "7 8 9 10",
    "it is less than 10",
    "minus 10",
    "all but 10",
    "**A** or **B**",
    "<|channel|>analysis<|message|>The answer is \\boxed{10}",
    "[THINK]The answer is 10",
]


@pytest.mark.parametrize(("text", "answer"), STATED)
def test_the_final_answer_is_found(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize("text", NOTHING)
def test_a_text_without_an_answer_states_none(text: str) -> None:
    assert extract_answer(text) is None
    assert math_answer(Problem("p", "?", "10"), text).outcome is Outcome.NO_ANSWER


def test_a_worked_solution_is_a_reference() -> None:
    assert reference_answer("2 + 2 = 4\n#### 4") == "4"
    assert reference_answer("so it is $\\boxed{\\frac12}$") == "\\frac12"
    assert reference_answer(" x^2 ") == "x^2"


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("The answer is \\boxed{18}", Outcome.CORRECT), ("The answer is \\boxed{19}", Outcome.WRONG), ("\\boxed{5^{5^{5^5}}}", Outcome.UNPARSABLE),
        ("\\boxed{18 or 19}", Outcome.WRONG), ("The answer is not \\boxed{18}", Outcome.UNPARSABLE), ("let me see", Outcome.NO_ANSWER), ("\\boxed{\\oint}", Outcome.UNPARSABLE),
    ],
)  # fmt: skip
def test_every_grade_has_its_reason(completion: str, outcome: Outcome) -> None:
    reward = math_answer(Problem("p", "How many?", "6 * 3\n#### 18"), completion)
    assert (reward.outcome, reward.value) == (outcome, float(outcome is Outcome.CORRECT))
    assert reward.is_valid


def test_the_question_says_whether_60_is_a_percentage() -> None:
    assert math_answer(Problem("p", "What percentage is blue?", "60"), "The answer is 60%.").value == 1
    assert math_answer(Problem("p", "How many are blue?", "60"), "The answer is 60%.").value == 0
    assert math_answer(Problem("p", "At 20% off, what is the price?", "60"), "The answer is 60%.").value == 0
    assert math_answer(Problem("p", "A 50% chance: what is the probability?", "1/2"), "The answer is 50%.").value == 1


@pytest.mark.parametrize(
    ("question", "reference", "answer", "right"),
    [
        ("How many cents are left?", "90", "$90", False), ("How many cents are left?", "90", "90 cents", True), ("He has 50 cents. How much is three times that?", "1.5", "$1.50", True),
        ("She sells eggs for $2. How much is that?", "18", "18 cents", False), ("She sells eggs for $2. How much is that?", "18", "$18", True), ("She gets $2 an hour. How much in 9 hours?", "18", "$18 a day", True),
        ("How many hours does it take?", "3", "3 days", False), ("How many hours does it take?", "3", "3 hrs", True), ("In 6 months, how old is he?", "5", "5 years old", True),
        ("A 6-foot rope is cut in half. How long is a part?", "3", "3 yards", False), ("A 6-foot rope is cut in half. How long is a part?", "3", "3 feet", True), ("What is the angle in degrees?", "30", "30 radians", False),
        ("How many more cards has she?", "5", "5 more cards", True), ("How many cards has she?", "5", "5 more cards", False), ("How many dozens?", "5", "5 dozen", True), ("How many eggs?", "5", "5 dozen", False),
    ],
)  # fmt: skip
def test_the_question_says_which_measure_is_meant(question: str, reference: str, answer: str, right: bool) -> None:
    assert (math_answer(Problem("p", question, reference), f"The answer is {answer}.").value == 1) is right


def test_references_that_cannot_be_parsed_are_named() -> None:
    problems = [
        Problem("a", "", "5"),
        Problem("b", "", "\\int_0^1 x"),
        Problem("c", "", ""),
        Problem("d", "", "1, 2, \\ldots"),
    ]
    named = dict(check_answers(problems))
    assert set(named) == {"b", "c", "d"}
    assert "\\int" in named["b"]


@pytest.mark.parametrize(
    "text",
    ["\\boxed{" * 50_000, "{" * 200_000, "answer is " * 40_000, "**" * 200_000, "$" * 200_001, "#### \n" * 50_000, "<answer>" * 40_000,
     "<think>" * 40_000, "1 " * 200_000, "1+" * 200_000, "9" * 1_000_000, "\\boxed{1} and " * 20_000, "(" * 300_000 + "5", "5 - " * 100_000, "a" * 500_000 + "1"],
    ids=lambda t: t[:12],
)  # fmt: skip
def test_long_texts_are_scanned_in_time(text: str) -> None:
    start = time.process_time()
    math_answer(Problem("p", "?", "5"), text)
    assert time.process_time() - start < 2, "not counting what a busy machine takes"
