"""Notations that only the other answer or the question decides: decimal commas, labels, binomials, ordinals."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem


def box(answer: str) -> str:
    return f"Therefore, the final answer is $\\boxed{{{answer}}}$."


RIGHT = [  # question, reference, completion
    ('', '3,75', box('3,75')), ('', '3,75', box('3.75')), ('', '3, 75', box('75, 3')), ('', '0,5', box('0.5')), ('', '12345', box('12,345')),
    ('', '\\binom{n}{k}', box('C(n,k)')), ('', '\\binom{10}{3}', box('C(10,3)')), ('', '\\binom{n}{2}', box('C(n, 2)')),
    ('', '\\binom{n}{2}', box('{}_nC_2')), ('', '\\binom{n}{2}', box('^nC_2')), ('', '\\binom{n}{2}', box('nC2')),
    ('', '\\binom{n}{2}', box('C_n^2')), ('', 'C(n,k)', box('\\binom{n}{k}')), ('', '293', 'A: 293'), ('', '293', box('A: 293')),
    ('', '42', box('C: 42')), ('', '293', 'A: $293$'), ('', '293', 'Answer: A: 293'), ('', '1/3', box('\\text{a third}')),
    ('', '1/3', box('\\text{one third}')), ('', '3', box('\\text{third}')), ('', '3', box('3^{rd}')),
    ('Which place did he finish in?', '3', box('\\text{third}')), ('', '\\frac{3}{4}', box('\\text{three-quarters}')),
    ('', '\\text{third}', box('3')), ('', '5', box('\\text{fifth}')), ('', '21', box('\\text{twenty-first}')),
    ('', '\\frac{1}{2}', box('\\text{a half}')), ('', '\\frac{1}{2}', box('\\text{half}')), ('', '2\\frac12', box('\\text{two and a half}')),
    ('', '1/4', box('\\text{a quarter}')), ('', '\\text{third}', box('3\\text{rd}')), ('', '3,75\\text{ kg}', box('3.75')),
    ('', '3,75\\text{ kg}', box('3,75\\text{ kg}')), ('How much is it?', '12,50', box('12.50')), ('How much is it?', '12,50', box('12.5')),
    ('List the divisors.', '3,75', box('75, 3')), ('List the divisors.', '3,75', box('3, 75')), ('', '2,3', box('3,2')),
    ('Ein Brot wiegt 1,5 kg. Wie viel wiegen 2,5 Brote?', '3.75', box('3,75')), ('', '12,345', box('12345')), ('', '3,75', box('3{,}75')),
    ('', '3,75', box('15/4')), ('What percent is it?', '12,5\\%', box('12.5\\%')), ('', '12,5\\%', box('12,5\\%')),
    ('What fraction is it?', '\\frac13', box('\\text{third}')), ('What fraction is it?', '\\frac13', box('\\text{a third}')),
    ('', '2.5', box('\\text{two and a half}')), ('', '2\\frac34', box('\\text{two and three quarters}')),
    ('', '12', box('\\text{the twelfth}')), ('', '12', box('12^{\\text{th}}')), ('', '2\\binom{n}{2}+1', box('2C(n,2)+1')),
    ('', '\\binom{n+1}{2}', box('C(n+1,2)')), ('', '\\binom{10}{3}\\cdot 2^7', box('{}_{10}C_3 \\cdot 2^7')),
    ('', '\\binom{10}{3}\\cdot 2^7', box('C_{10}^{3} \\cdot 2^7')), ('', '(2,3)', box('C(2,3)')), ('', 'C(2,3)', box('(2,3)')),
    ('', 'C(2,3)', box('C(2,3)')), ('', '293', '**A: 293**'), ('', '5', box('B: 5')), ('', '(2,3)', box('A: (2,3)')),
    ('', 'C: 12', box('C: 12')), ('', '3:4', box('3:4')),
]  # fmt: skip
WRONG = [
    ('', '3,75', box('375')), ('', '375', box('3,75')), ('', '3.75', box('3,7')), ('', '(3,75)', box('3.75')), ('', '3, 75', box('3.75')),
    ('', '3.5', box('3, 5')), ('', '3.5', box('(3,5)')), ('', '3.5', box('\\{3,5\\}')), ('', '12.345', box('12,345')),
    ('', '1.234', box('1,234')), ('', '\\binom{n}{2}', box('C(2,n)')), ('', 'C(2,3)', box('\\binom{2}{3}')),
    ('Compute $\\binom{10}{5}$.', '252', box('C(10,5)')), ('', '120', box('C(10,3)')), ('', '\\binom{n}{2}', box('C(n,3)')),
    ('', 'C: 12', box('C: 99')), ('', 'C: 99', box('C: 12')), ('', '42', box('C: 43')), ('', '12', box('A: 12, B: 13')),
    ('Which is it? (A) 293 (B) 5', '293', 'A: 5'), ('', '293', 'Q: 293'), ('', '293', 'x: 293, y: 294'), ('', '3', box('\\text{one third}')),
    ('', '\\text{third}', box('\\text{fourth}')), ('', '4', box('\\text{a quarter}')), ('', '4', box('\\text{quarter}')),
    ('', '2', box('\\text{2 thirds}')), ('', '3,75\\text{ kg}', box('375')), ('List the divisors.', '3,75', box('3.75')),
    ('Find all roots.', '2,3', box('2.3')), ('', '2,3', box('2.3')), ('Ein Brot wiegt 1,5 kg. Wie viel wiegen 2,5 Brote?', '3.75', box('375')),
    ('Ein Brot wiegt 1,5 kg.', '3.75', box('3,7')), ('', '225,144', box('225.144')), ('', '12,345', box('12.345')), ('', '3,75', box('3')),
    ('', '3,75', box('75')), ('What fraction is it?', '3', box('\\text{third}')), ('', '2', box('\\text{two and a half}')),
    ('', '5', box('\\text{two and three}')), ('', '1/2', box('\\text{half of it}')), ('', '2', box('\\text{half}')),
    ('', '3', box('\\text{third or fourth}')), ('', '3', box('\\text{third, fourth}')), ('', '3', box('\\text{not third}')),
    ('', '\\binom{n}{2}', box('C(n,2)+1')), ('Compute $\\binom{10}{3}$', '120', box('C_{10}^3')), ('', '120', box('{}_{10}C_3')),
    ('', '5', box('B: 50')), ('', '5', box('A: 4, B: 5')), ('', '(2,3)', box('A: (3,2)')), ('', '5', box('A: 5 or 6')), ('', '5', box('-: 5')),
    ('', '5', box('A: not 5')), ('', '5', box('A: 4: 5')), ('', 'C: 12', box('D: 12')), ('', '3:4', box('A: 3')),
]  # fmt: skip


@pytest.mark.parametrize(("question", "reference", "completion"), RIGHT)
def test_a_notation_is_read(question: str, reference: str, completion: str) -> None:
    assert math_answer(Problem("p", question, reference), completion).value == 1


@pytest.mark.parametrize(("question", "reference", "completion"), WRONG)
def test_a_notation_is_not_read_as_something_else(question: str, reference: str, completion: str) -> None:
    assert math_answer(Problem("p", question, reference), completion).value == 0
