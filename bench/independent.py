"""Cases made from formulas: what is equal follows from the numbers that a case was made of, never from a parser.

Written by somebody who had not read the grader. Each family draws numbers, writes them in the ways that models write,
and writes near misses beside them; a frame then puts the answer where models put it.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd


@dataclass(frozen=True, slots=True)
class Drawn:
    """A question, its reference, answers that equal it and answers that do not."""

    question: str
    reference: str
    right: list[str]
    wrong: list[str]


# fmt: off
# Writers: one number in the ways that models write it


def whole(rng: random.Random, n: int) -> list[str]:
    sign, digits = ("-" if n < 0 else ""), f"{abs(n):,}"
    forms = [str(n), f"{n}.", f"{n}.0", f"{{{n}}}", f"\\mathbf{{{n}}}", f"\\displaystyle {n}", f"{sign}{digits}"]
    forms += [sign + digits.replace(",", mark) for mark in ("{,}", "\\,", ",\\!", "\\;")]
    return rng.sample(forms, 6)


def ratio(f: Fraction, command: str = "\\frac") -> str:
    if f.denominator == 1:
        return str(f.numerator)
    return f"{'-' if f < 0 else ''}{command}{{{abs(f.numerator)}}}{{{f.denominator}}}"


def fraction_forms(rng: random.Random, f: Fraction) -> list[str]:
    p, q, k = abs(f.numerator), f.denominator, rng.randint(2, 9)
    sign = "-" if f < 0 else ""
    forms = [f"{sign}\\dfrac{{{p}}}{{{q}}}", f"{sign}\\tfrac{{{p}}}{{{q}}}", f"\\frac{{{sign}{p}}}{{{q}}}", f"{sign}{p}/{q}", f"{sign}{{{p}}}/{{{q}}}", f"{sign}\\frac{{{k * p}}}{{{k * q}}}", f"{sign}\\left(\\frac{{{p}}}{{{q}}}\\right)", f"{sign}{{{p} \\over {q}}}", f"{sign}\\cfrac{{{p}}}{{{q}}}"]
    if sign:
        forms.append(f"\\frac{{{p}}}{{-{q}}}")
    if p > q and q > 1:
        forms += [f"{sign}{p // q}\\frac{{{p % q}}}{{{q}}}", f"{sign}{p // q} \\dfrac{{{p % q}}}{{{q}}}", f"{sign}{p // q} {p % q}/{q}"]
    if p < 10 and q < 10:
        forms += [f"{sign}\\frac{p}{q}", f"{sign}\\dfrac {p}{q}"]
    return forms


def linear(a: int, b: int, var: str = "x") -> str:
    """a var + b."""
    head = {0: "", 1: var, -1: f"-{var}"}.get(a, f"{a}{var}")
    return head + (f"{b:+d}" if b or not head else "") if head else str(b)


def polynomial(coefficients: list[int], var: str = "x", order: list[int] | None = None) -> str:
    """Coefficients from the constant on."""
    terms = []
    for power in order or range(len(coefficients) - 1, -1, -1):
        c = coefficients[power]
        if c:
            body = {0: "", 1: var}.get(power, f"{var}^{power}" if power < 10 else f"{var}^{{{power}}}")
            digits = str(abs(c)) if abs(c) != 1 or not power else ""
            terms.append(f"{'-' if c < 0 else '+'} {digits}{body}")
    text = " ".join(terms) or "0"
    return text[2:] if text.startswith("+ ") else text.replace("- ", "-", 1) if text.startswith("- ") else text


def product(a: list[int], b: list[int]) -> list[int]:
    made = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            made[i + j] += x * y
    return made


def nonzero(rng: random.Random, size: int) -> int:
    return rng.choice((-1, 1)) * rng.randint(1, size)


def squarefree(rng: random.Random) -> int:
    return rng.choice((2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19))


# Families


def integers(rng: random.Random) -> Drawn:
    n = nonzero(rng, rng.choice((50, 5_000, 10**7, 10**14)))
    while abs(n) < 3:
        n = nonzero(rng, 50)
    wrong = [str(n + 1), str(n - 1), str(-n), f"{n}0", f"{n}.5", f"{n}x", f"{n}\\pi", f"{n}i", f"{n}!", f"{n}^2", f"\\sqrt{{{n}}}", f"\\frac{{{n}}}{{2}}", f"{n}.0000001", f"{n},{n}", f"({n}, {n})", f"{n}_7", f"|{n}|" if n < 0 else f"-|{n}|", f"{n} \\pm 1", f"> {n}", f"\\approx {n + 1}", f"{n + 1}, \\text{{not }} {n}", f"{n}e", f"{n}e3"]
    return Drawn("", str(n), whole(rng, n), rng.sample(wrong, 7))


def separated(rng: random.Random) -> Drawn:
    n = rng.randint(10**4, 10**13)
    shown = f"{n:,}"
    digits = str(n)
    at = rng.randrange(len(digits))
    changed = digits[:at] + str((int(digits[at]) + rng.randint(1, 8)) % 10) + digits[at + 1 :]
    return Drawn("", shown, [digits, shown.replace(",", "{,}"), shown.replace(",", ",\\!"), shown.replace(",", "\\,"), f"{n}.00"], [changed if int(changed) != n else str(n + 1), digits[:-1], digits + "0", digits[::-1] if digits != digits[::-1] else str(n + 2), shown[:-1], "0" + shown[:-3] + "," + "999" if not shown.endswith("999") else str(n + 3)])


def units(rng: random.Random) -> Drawn:
    n, unit, other = rng.randint(2, 900), *rng.sample(("cm", "km", "kg", "miles", "hours", "liters", "apples"), 2)
    right = [f"{n}", f"{n}\\text{{ {unit}}}", f"{n} \\text{{ {unit}}}", f"{n}\\,\\text{{{unit}}}", f"{n}~\\mathrm{{{unit}}}", f"{n} {unit}", f"{n}\\ \\text{{{unit}}}", f"{n}\\;\\mathrm{{{unit}}}"]
    return Drawn("", f"{n} \\text{{ {unit}}}", rng.sample(right, 5), [f"{n} \\text{{ {other}}}", f"{n + 1} \\text{{ {unit}}}", f"-{n} \\text{{ {unit}}}", f"\\text{{{unit}}}", f"{n} \\text{{ {unit}}}^2", f"{n} {other}"])


def bare_units(rng: random.Random) -> Drawn:
    n = rng.randint(2, 2000)
    right = [f"{n} \\text{{ cm}}", f"{n} \\text{{ cm}}^2", f"{n}^\\circ", f"{n}^{{\\circ}}", f"{n}\\text{{ square units}}", f"{n} \\text{{ miles per hour}}", f"{n}\\,\\mathrm{{m/s}}", f"{n} \\text{{ minutes}}", f"{n} students", f"{n}\\text{{ mph}}", f"\\${n}", f"\\text{{\\${n}}}", f"{n}°", f"{n} degrees", f"\\text{{{n} apples}}"]
    return Drawn("", str(n), rng.sample(right, 6), [f"{n + 1} \\text{{ cm}}", f"{n}00 \\text{{ cm}}", f"\\${n}.01", f"{n + 10}^\\circ", f"{n} \\text{{ million}}", f"{n} \\text{{ thousand}}", f"{n} \\text{{ dozen}}"])


def money(rng: random.Random) -> Drawn:
    cents = rng.randint(101, 99_999)
    while cents % 10 == 0:
        cents += 1
    text = f"{cents // 100}.{cents % 100:02d}"
    return Drawn("", rng.choice((text, f"\\${text}")), [text, f"\\${text}", f"\\$ {text}", f"\\text{{\\${text}}}", f"{text} \\text{{ dollars}}", f"{text}0"], [text[:-1], f"\\${cents // 100}", f"\\${cents}", f"{cents / 100 + 0.01:.2f}", f"\\${cents // 100 + 1}.{cents % 100:02d}", f"-\\${text}"])


def fractions(rng: random.Random) -> Drawn:
    f = Fraction(nonzero(rng, 60), rng.randint(2, 40))
    while f.denominator == 1:
        f = Fraction(nonzero(rng, 60), rng.randint(2, 40))
    p, q = f.numerator, f.denominator
    reference = rng.choice((ratio(f), ratio(f, "\\dfrac"), f"{p}/{q}"))
    wrong = [ratio(-f), ratio(Fraction(p + 1, q)), ratio(Fraction(p, q + 1)), ratio(f + 1), str(p), str(q), f"{p}, {q}", f"({p},{q})", f"\\frac{{{p}}}{{{q}}}x", f"\\left(\\frac{{{p}}}{{{q}}}\\right)^2", f"{float(f):.2f}1"]
    if abs(p) != 1 and abs(p) != q:
        wrong.append(ratio(1 / f))
    if abs(f) > 1:
        whole_part, rest = divmod(abs(f.numerator), q)
        wrong += [f"{'' if p < 0 else '-'}{whole_part}\\frac{{{rest}}}{{{q}}}", f"{whole_part + 1}\\frac{{{rest}}}{{{q}}}", f"{whole_part}\\cdot\\frac{{{rest}}}{{{q}}}"]
    return Drawn("", reference, rng.sample(fraction_forms(rng, f), 6), rng.sample([w for w in wrong if w != reference], 6))


def decimals(rng: random.Random) -> Drawn:
    places = rng.randint(1, 4)
    n = nonzero(rng, 10**4) * 10 + rng.randint(1, 9) * 1
    if n % 10 == 0 or abs(n) < 11:
        n = 1237
    f = Fraction(n, 10**places)
    text = f"{'-' if n < 0 else ''}{abs(n) // 10**places}.{abs(n) % 10**places:0{places}d}"
    right = [text, text + "0", ratio(f), f"{n}/{10**places}", f"\\frac{{{n}}}{{{10**places}}}", text.replace("0.", ".") if abs(f) < 1 else text + "00", f"{text}\\text{{ m}}"]
    return Drawn("", text, right, [text + "1", f"{float(f) * 10:.{places}f}", f"{n}", text.lstrip("-") if n < 0 else "-" + text, f"{float(f + Fraction(1, 10**places)):.{places}f}", text.replace(".", ",") + ",5"])


def percent(rng: random.Random) -> Drawn:
    n = rng.choice((rng.randint(2, 99), rng.randint(101, 400), rng.randint(11, 999) / 10))
    n = int(n) if n == int(n) else n
    reference = rng.choice((f"{n}", f"{n}\\%", f"{n}%"))
    return Drawn("What percent of the total is it? Express your answer as a percentage.", reference, [f"{n}\\%", f"{n}%", f"{n}", f"{n} \\%", f"{n}\\text{{ percent}}", f"{n}\\text{{\\%}}"], [f"{n + 1:g}\\%", f"-{n}\\%", f"{n * 10:g}\\%", f"{n / 10:g}\\%", f"{n / 1000:g}", f"{n}\\%, {n}\\%"])


def percent_unasked(rng: random.Random) -> Drawn:
    n = rng.randint(2, 99)
    f = Fraction(n, 100)
    return Drawn("", f"{n}\\%", [f"{n}\\%", f"{n} \\%", f"{n / 100:g}", ratio(f), f"{n} percent"], [f"{n + 1}\\%", f"{n / 10:g}", f"{n * 100}\\%", f"0.{n:02d}\\%", f"0.00{n}"])


def scientific(rng: random.Random) -> Drawn:
    digits, power = rng.randint(11, 99), rng.randint(-9, 12)
    if digits % 10 == 0:
        digits += 1
    f = Fraction(digits) * Fraction(10) ** (power - 1)
    mantissa = f"{digits // 10}.{digits % 10}"
    right = [f"{mantissa} \\times 10^{{{power}}}", f"{mantissa}\\cdot 10^{{{power}}}", f"{digits} \\times 10^{{{power - 1}}}", f"{mantissa}e{power}", f"{mantissa} \\times 10^{{{power}}} \\text{{ m}}"]
    if f.denominator == 1:
        right += [str(f.numerator), f"{f.numerator:,}"]
    return Drawn("", f"{mantissa} \\times 10^{{{power}}}", right, [f"{mantissa} \\times 10^{{{power + 1}}}", f"{mantissa} \\times 10^{{{-power - 1}}}", f"{digits} \\times 10^{{{power}}}", f"-{mantissa} \\times 10^{{{power}}}", f"{digits + 1} \\times 10^{{{power - 1}}}", mantissa + "1" + f" \\times 10^{{{power}}}"])


def radicals(rng: random.Random) -> Drawn:
    a, b, d = rng.randint(2, 12), squarefree(rng), rng.randint(2, 9)
    value = a * b**0.5
    right = [f"\\sqrt{{{a * a * b}}}", f"\\sqrt{{{b}}} \\cdot {a}", f"{a} \\cdot \\sqrt{{{b}}}", f"{a} \\sqrt {{{b}}}", f"\\frac{{{a * b}}}{{\\sqrt{{{b}}}}}", f"\\frac{{{a * d}\\sqrt{{{b}}}}}{{{d}}}", f"{a}\\cdot {b}^{{1/2}}", f"{a}√{b}", f"{value:.10f}"]
    wrong = [f"{a + 1}\\sqrt{{{b}}}", f"{a}\\sqrt{{{b + 1}}}", f"-{a}\\sqrt{{{b}}}", f"{b}\\sqrt{{{a}}}", f"\\sqrt{{{a * b}}}", f"{a}+\\sqrt{{{b}}}", f"{a}\\sqrt[3]{{{b}}}", f"{a}\\cdot {b}", f"{value:.2f}", f"{value:.10f}7", f"\\pm {a}\\sqrt{{{b}}}", f"{a}\\sqrt{{-{b}}}", f"\\sqrt{{{a * a * b + 1}}}", f"{a}\\sqrt{{{b}}}+10^{{-20}}"]
    if a == b:
        wrong.remove(f"{b}\\sqrt{{{a}}}")
    return Drawn("", f"{a}\\sqrt{{{b}}}", rng.sample(right, 6), rng.sample(wrong, 6))


def surds(rng: random.Random) -> Drawn:
    a, b, c, d = nonzero(rng, 12), nonzero(rng, 9), squarefree(rng), rng.randint(2, 7)
    while gcd(a, d) != 1 or gcd(b, d) != 1 or abs(b) == 1:
        a, b, d = nonzero(rng, 12), nonzero(rng, 9), rng.randint(2, 7)
    norm = a * a - b * b * c
    right = [f"\\frac{{{b}\\sqrt{{{c}}}{a:+d}}}{{{d}}}", f"\\dfrac{{{a}}}{{{d}}} {'+' if b > 0 else '-'} \\dfrac{{{abs(b)}\\sqrt{{{c}}}}}{{{d}}}", f"\\frac{{1}}{{{d}}}({a}{b:+d}\\sqrt{{{c}}})", f"({a}{b:+d}\\sqrt{{{c}}})/{d}", f"\\frac{{{norm}}}{{{d}({a}{-b:+d}\\sqrt{{{c}}})}}", f"\\frac{{{-a}{-b:+d}\\sqrt{{{c}}}}}{{-{d}}}"]
    wrong = [f"\\frac{{{a}{-b:+d}\\sqrt{{{c}}}}}{{{d}}}", f"\\frac{{{-a}{b:+d}\\sqrt{{{c}}}}}{{{d}}}", f"\\frac{{{a}{b:+d}\\sqrt{{{c}}}}}{{{d + 1}}}", f"{a}{b:+d}\\sqrt{{{c}}}", f"\\frac{{{a}\\pm{abs(b)}\\sqrt{{{c}}}}}{{{d}}}", f"\\frac{{{a}{b:+d}\\sqrt{{{c + 1}}}}}{{{d}}}", f"{a}+\\frac{{{b}\\sqrt{{{c}}}}}{{{d}}}"]
    return Drawn("", f"\\frac{{{a}{b:+d}\\sqrt{{{c}}}}}{{{d}}}", right, rng.sample(wrong, 6))


def nested_radicals(rng: random.Random) -> Drawn:
    a, b = rng.sample((2, 3, 5, 7, 11, 13), 2)
    a, b = max(a, b), min(a, b)
    return Drawn("", f"\\sqrt{{{a}}}+\\sqrt{{{b}}}", [f"\\sqrt{{{b}}}+\\sqrt{{{a}}}", f"\\sqrt{{{a + b}+2\\sqrt{{{a * b}}}}}", f"\\frac{{{a - b}}}{{\\sqrt{{{a}}}-\\sqrt{{{b}}}}}"], [f"\\sqrt{{{a}}}-\\sqrt{{{b}}}", f"\\sqrt{{{a + b}}}", f"\\sqrt{{{a + b}-2\\sqrt{{{a * b}}}}}", f"\\sqrt{{{a * b}}}", f"\\sqrt{{{a}+\\sqrt{{{b}}}}}"])


def cube_roots(rng: random.Random) -> Drawn:
    a, b = rng.randint(2, 6), rng.choice((2, 3, 5, 7, 10))
    return Drawn("", f"{a}\\sqrt[3]{{{b}}}", [f"\\sqrt[3]{{{a**3 * b}}}", f"{a} \\cdot {b}^{{1/3}}", f"{a}\\cdot{b}^{{\\frac{{1}}{{3}}}}", f"\\sqrt[3]{{{b}}}\\cdot {a}"], [f"{a}\\sqrt{{{b}}}", f"\\sqrt[3]{{{a * b}}}", f"{a}\\sqrt[4]{{{b}}}", f"{a + 1}\\sqrt[3]{{{b}}}", f"\\sqrt[3]{{{a**2 * b}}}"])


def big_powers(rng: random.Random) -> Drawn:
    n = rng.randint(60, 2000)
    base = rng.choice((2, 3, 5))
    return Drawn("", f"{base}^{{{2 * n}}}", [f"{base**2}^{{{n}}}", f"\\left({base}^{{{n}}}\\right)^2"], [f"{base}^{{{2 * n + 1}}}", f"{base}^{{{2 * n - 1}}}", f"{base + 1}^{{{2 * n}}}", f"{base}^{{{2 * n}}} + 1", f"{base}^{{{2 * n}}} - 1", f"{base}^{{-{2 * n}}}", f"-{base}^{{{2 * n}}}", f"{2 * n}^{{{base}}}"])


def factorials(rng: random.Random) -> Drawn:
    n, k = rng.randint(20, 60), rng.randint(3, 9)
    top = 1
    for i in range(k):
        top = top * (n - i) // (i + 1)
    return Drawn("", f"\\binom{{{n}}}{{{k}}}", [str(top), f"{top:,}", f"\\binom{{{n}}}{{{n - k}}}", f"{{{n} \\choose {k}}}", f"\\dbinom{{{n}}}{{{k}}}"], [f"\\binom{{{n}}}{{{k + 1}}}", f"\\binom{{{n + 1}}}{{{k}}}", f"{top + 1}", f"\\frac{{{n}!}}{{{n - k}!}}", f"\\binom{{{k}}}{{{n}}}", f"({n}, {k})", f"\\frac{{{n}}}{{{k}}}"])


def pies(rng: random.Random) -> Drawn:
    f = Fraction(nonzero(rng, 12), rng.randint(2, 12))
    while f.denominator == 1:
        f = Fraction(nonzero(rng, 12), rng.randint(2, 12))
    p, q = f.numerator, f.denominator
    sign, size = ("-" if p < 0 else ""), abs(p)
    head = "" if size == 1 else str(size)
    right = [f"{sign}\\dfrac{{{head}\\pi}}{{{q}}}", f"{sign}{head}\\pi/{q}", f"{sign}\\frac{{{size}}}{{{q}}}\\pi", f"{sign}\\frac{{{size}}}{{{q}}} \\cdot \\pi", f"\\frac{{{sign}{head}\\pi}}{{{q}}}", f"{sign}\\frac{{\\pi \\cdot {size}}}{{{q}}}", f"{sign}{size}π/{q}"]
    wrong = [f"{sign}\\frac{{{head}\\pi}}{{{q + 1}}}", f"\\frac{{{p}}}{{{q}}}", f"{'' if sign else '-'}\\frac{{{head}\\pi}}{{{q}}}", f"{sign}\\frac{{{head}\\pi^2}}{{{q}}}", f"{sign}\\frac{{{size}}}{{{q}\\pi}}", f"{float(f) * 3.14:.3f}", f"\\frac{{{p}e}}{{{q}}}", f"\\frac{{{p}\\phi}}{{{q}}}"]
    return Drawn("", f"{sign}\\frac{{{head}\\pi}}{{{q}}}", rng.sample(right, 5), rng.sample(wrong, 5))


def logs(rng: random.Random) -> Drawn:
    a, b = rng.sample((2, 3, 5, 7, 11), 2)
    k = rng.randint(2, 5)
    return Drawn("", f"\\log_{{{a}}} {b}", [f"\\log_{{{a}}} {b}", f"\\log_{{{a}}}{{{b}}}", f"\\log_{{{a}}}({b})", f"\\frac{{\\ln {b}}}{{\\ln {a}}}", f"\\frac{{\\log {b}}}{{\\log {a}}}", f"\\frac{{1}}{{\\log_{{{b}}} {a}}}", f"\\frac{{1}}{{{k}}}\\log_{{{a}}} {b**k}"], [f"\\log_{{{b}}} {a}", f"\\log_{{{a}}} {b + 1}", f"-\\log_{{{a}}} {b}", f"\\ln {b} - \\ln {a}", f"\\log {b}", f"\\frac{{\\ln {a}}}{{\\ln {b}}}", f"{a}^{b}"])


def exponentials(rng: random.Random) -> Drawn:
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    return Drawn("", f"{a}e^{{{b}}}", [f"{a} e^{b}", f"{a} \\cdot e^{{{b}}}", f"{a}\\mathrm{{e}}^{{{b}}}", f"e^{{{b}}} \\cdot {a}", f"\\frac{{{a}}}{{e^{{-{b}}}}}", f"{a}\\exp({b})"], [f"{a}e^{{{b + 1}}}", f"{a + 1}e^{{{b}}}", f"{a}e^{{-{b}}}", f"({a}e)^{{{b}}}", f"{a}^{{{b}}}", f"{a}+e^{{{b}}}", f"{a}x^{{{b}}}", f"{a * 2.718281828**b:.1f}"[:5]])


def complexes(rng: random.Random) -> Drawn:
    a, b, k = nonzero(rng, 15), nonzero(rng, 15), rng.randint(2, 5)
    while abs(a) == abs(b) or abs(b) == 1 or abs(a) == 1:
        a, b = nonzero(rng, 15), nonzero(rng, 15)
    return Drawn("", f"{a}{b:+d}i", [f"{a} {'+' if b > 0 else '-'} {abs(b)}i", f"{b}i{a:+d}", f"{a}{b:+d}\\mathrm{{i}}", f"{a}{b:+d} \\cdot i", f"\\frac{{{k * a}{k * b:+d}i}}{{{k}}}", f"{a}+({b})i", f"z = {a}{b:+d}i", f"-({-a}{-b:+d}i)"], [f"{a}{-b:+d}i", f"{-a}{b:+d}i", f"{b}{a:+d}i", f"{a}{b:+d}", f"({a},{b})", f"{a}i{b:+d}", f"{a}{b + 1:+d}i", f"{a}{b:+d}j^2", f"{a}\\pm{abs(b)}i"])


def polar(rng: random.Random) -> Drawn:
    k = rng.choice((2, 4, 6, 8))
    half = k // 2
    return Drawn("", f"{half}+{half}i\\sqrt{{3}}" if half > 1 else "1+i\\sqrt{3}", [f"{k}e^{{i\\pi/3}}", f"{half}(1+i\\sqrt{{3}})", f"{half}+{half}\\sqrt{{3}}i"], [f"{k}e^{{-i\\pi/3}}", f"{k}e^{{i\\pi/6}}", f"{half}-{half}i\\sqrt{{3}}", f"{half}\\sqrt{{3}}+{half}i", f"{k}e^{{2i\\pi/3}}"])


def tuples(rng: random.Random) -> Drawn:
    size = rng.randint(2, 4)
    items = [Fraction(nonzero(rng, 20), rng.choice((1, 1, 1, 2, 3))) for _ in range(size)]
    while len(set(items)) < size or (size == 2 and items[0] < items[1]):
        items = [Fraction(nonzero(rng, 20), rng.choice((1, 1, 1, 2, 3))) for _ in range(size)]
    texts = [ratio(f) for f in items]
    alternates = [rng.choice(fraction_forms(rng, f)[:6]) if f.denominator > 1 else str(f) for f in items]
    right = [f"\\left({', '.join(texts)}\\right)", f"({','.join(alternates)})", f"( {' , '.join(texts)} )", "\\left( " + ",\\ ".join(texts) + " \\right)", "(" + ",\\,".join(texts) + ")"]
    swapped = [texts[1], texts[0], *texts[2:]]
    bumped = [ratio(items[0] + 1), *texts[1:]]
    negated = [*texts[:-1], ratio(-items[-1])]
    wrong = [f"({', '.join(x)})" for x in (swapped, bumped, negated, texts[:-1], [*texts, "0"])] + [f"[{', '.join(texts)}]", f"\\{{{', '.join(texts)}\\}}", f"({' + '.join(texts)})", f"(({', '.join(texts)}), 1)"]
    return Drawn("", f"({', '.join(texts)})", right, rng.sample(wrong, 6))


def sets(rng: random.Random) -> Drawn:
    size = rng.randint(2, 5)
    items = rng.sample(range(-30, 60), size)
    texts = [str(i) for i in items]
    turned = rng.sample(texts, size)
    right = [f"\\{{{', '.join(turned)}\\}}", f"\\left\\{{ {','.join(texts)} \\right\\}}", ", ".join(turned), f"\\{{{','.join(reversed(texts))}\\}}", f"x = {', '.join(turned)}" if size == 2 else ", ".join(texts), f"\\lbrace {', '.join(turned)} \\rbrace"]
    wrong = [f"\\{{{', '.join(x)}\\}}" for x in (texts[:-1], [*texts, "99"], [str(items[0] + 1), *texts[1:]] if items[0] + 1 not in items else texts[1:], [str(99 + items[0]), *texts[1:]])] + [f"({', '.join(texts)})", "+".join(texts), texts[0], f"\\{{{{{texts[0]}}}, \\{{{texts[1]}\\}}\\}}", "\\emptyset", f"{texts[0]}, \\ldots, {texts[-1]}"]
    return Drawn("", f"\\{{{', '.join(texts)}\\}}", right, rng.sample(wrong, 6))


def roots(rng: random.Random) -> Drawn:
    a, b = rng.sample(range(-20, 20), 2)
    return Drawn("", f"{a}, {b}", [f"{b}, {a}", f"{b},{a}", f"x = {a}, {b}", f"x = {a} \\text{{ or }} x = {b}", f"x={b} \\text{{ and }} x={a}", f"\\{{{a}, {b}\\}}", f"{a} \\text{{ and }} {b}"], [f"{a}", f"{b}", f"{a}, {a}", f"{a}, {b}, {b + 1}", f"({a}, {b})", f"{a + b}", f"{a * b}", f"{a}, {b + 1}", f"{-a}, {-b}" if a + b else f"{a}, {b + 2}"])


def plus_minus(rng: random.Random) -> Drawn:
    a, b, c = nonzero(rng, 9), rng.randint(2, 6), squarefree(rng)
    return Drawn("", f"{a} \\pm {b}\\sqrt{{{c}}}", [f"{a}+{b}\\sqrt{{{c}}}, {a}-{b}\\sqrt{{{c}}}", f"{a} - {b}\\sqrt{{{c}}} \\text{{ and }} {a} + {b}\\sqrt{{{c}}}", f"x = {a} \\pm {b}\\sqrt{{{c}}}", f"{a} \\pm \\sqrt{{{b * b * c}}}", f"\\{{{a}-{b}\\sqrt{{{c}}}, {a}+{b}\\sqrt{{{c}}}\\}}"], [f"{a}+{b}\\sqrt{{{c}}}", f"{a}-{b}\\sqrt{{{c}}}", f"{-a} \\pm {b}\\sqrt{{{c}}}", f"{a} \\pm {c}\\sqrt{{{b}}}" if b != c else f"{a}", f"\\pm {b}\\sqrt{{{c}}}", f"{a} \\pm {b}"])


def intervals(rng: random.Random) -> Drawn:
    a = rng.randint(-30, 20)
    b = a + rng.randint(2, 30)
    left, right_mark = rng.choice("(["), rng.choice(")]")
    low, high = ("<" if left == "(" else "\\le"), ("<" if right_mark == ")" else "\\leq")
    back = {"<": ">", "\\le": "\\ge", "\\leq": "\\geq"}
    right = [f"\\left{left}{a}, {b}\\right{right_mark}", f"{left}{a},{b}{right_mark}", f"x \\in {left}{a}, {b}{right_mark}", f"{a} {low} x {high} {b}", f"{b} {back[high]} x {back[low]} {a}", f"{left} {a} , {b} {right_mark}"]
    other_left, other_right = {"(": "[", "[": "("}[left], {")": "]", "]": ")"}[right_mark]
    wrong = [f"{other_left}{a},{b}{right_mark}", f"{left}{a},{b}{other_right}", f"{left}{a},{b + 1}{right_mark}", f"{left}{a - 1},{b}{right_mark}", f"{left}{b},{a}{right_mark}", f"{left}{-b - 100},{-a}{right_mark}", f"(-\\infty,{b}{right_mark}", f"{left}{a},\\infty)", f"{a} {back[low]} x {back[high]} {b}", f"x {high} {b}"]
    return Drawn("", f"{left}{a}, {b}{right_mark}", right, rng.sample(wrong, 6))


def unions(rng: random.Random) -> Drawn:
    a = rng.randint(-30, 20)
    b = a + rng.randint(2, 20)
    right = [f"(-\\infty, {a}) \\cup ({b}, \\infty)", f"({b}, \\infty) \\cup (-\\infty, {a})", f"x \\in (-\\infty,{a})\\cup({b},\\infty)", f"\\left(-\\infty,{a}\\right)\\cup\\left({b},+\\infty\\right)", f"x < {a} \\text{{ or }} x > {b}", f"(-∞, {a}) ∪ ({b}, ∞)"]
    wrong = [f"(-\\infty, {a}] \\cup ({b}, \\infty)", f"(-\\infty, {a}) \\cup [{b}, \\infty)", f"(-\\infty, {b}) \\cup ({a}, \\infty)", f"({a}, {b})", f"(-\\infty, {a}) \\cap ({b}, \\infty)", f"(-\\infty, {a})", f"(-\\infty, {a + 1}) \\cup ({b}, \\infty)", f"(-\\infty, {a}) \\cup ({b}, \\infty) \\cup \\{{{a}\\}}", "(-\\infty, \\infty)", f"(-\\infty, {a}), ({b}, \\infty), 5"]
    return Drawn("", f"(-\\infty, {a}) \\cup ({b}, \\infty)", right, rng.sample(wrong, 6))


def inequalities(rng: random.Random) -> Drawn:
    f = Fraction(nonzero(rng, 20), rng.choice((1, 1, 2, 3)))
    t = ratio(f)
    return Drawn("", f"x \\ge {t}", [f"x \\geq {t}", f"x \\geqslant {t}", f"{t} \\le x", f"x ≥ {t}", f"[{t}, \\infty)", f"x \\in [{t}, \\infty)", f"x >= {t}"], [f"x > {t}", f"x \\le {t}", f"x \\ge {ratio(-f)}", f"x \\ge {ratio(f + 1)}", f"x = {t}", f"({t}, \\infty)", f"(-\\infty, {t}]", f"{t} \\ge x", f"{t}"])


def matrices(rng: random.Random) -> Drawn:
    rows, columns = rng.choice(((2, 1), (3, 1), (2, 2), (2, 2), (3, 3), (2, 3)))
    grid = [[nonzero(rng, 12) for _ in range(columns)] for _ in range(rows)]
    grid[0][0] = 17

    def write(g, kind="pmatrix", gap=" & ", line=" \\\\ "):
        return f"\\begin{{{kind}}}{gap and ''} {line.join(gap.join(map(str, row)) for row in g)} \\end{{{kind}}}"

    bumped = [list(r) for r in grid]
    bumped[-1][-1] += 1
    negated = [[-x for x in r] for r in grid]
    transposed = [list(r) for r in zip(*grid, strict=True)]
    swapped = [grid[1], grid[0], *grid[2:]]
    k = rng.randint(2, 4)
    scaled = [[k * x for x in r] for r in grid]
    wrong = [write(g) for g in (bumped, negated, grid[:-1], [*grid, grid[0]], scaled)]
    wrong += [write(transposed)] if transposed != grid else []
    wrong += [write(swapped)] if swapped != grid else []
    wrong += [write(grid, "vmatrix"), str(grid[0][0])]
    return Drawn("", write(grid), [write(grid, "bmatrix"), write(grid, "pmatrix", "&", "\\\\"), f"\\left({write(grid, 'matrix')}\\right)", write(grid, "bmatrix", " & ", " \\\\\n"), f"\\mathbf{{A}} = {write(grid)}" if rows == columns else write(grid, "pmatrix", "  &  ")], rng.sample(wrong, 6))


def expanded(rng: random.Random) -> Drawn:
    a, b, c, d = (nonzero(rng, 9) for _ in range(4))
    coefficients = product([b, a], [d, c])
    order = rng.sample(range(3), 3)
    shown = polynomial(coefficients)
    bumped = [coefficients[0], coefficients[1] + 1, coefficients[2]]
    return Drawn("Expand the product.", shown, [polynomial(coefficients, order=order), shown.replace(" ", ""), shown.replace("x^2", "x^{2}"), f"({linear(c, d)})({linear(a, b)})", f"\\left({linear(a, b)}\\right)\\left({linear(c, d)}\\right)", f"-({linear(-a, -b)})({linear(c, d)})"], [polynomial(bumped), polynomial([-x for x in coefficients]), polynomial([coefficients[0] + 1, *coefficients[1:]]), polynomial(coefficients, "y"), shown.replace("x^2", "x^3"), polynomial([coefficients[0], coefficients[1], 2 * coefficients[2]]), f"({linear(a, b)})({linear(c, d + 1)})", f"{shown} + x"])


def factored(rng: random.Random) -> Drawn:
    p, q, r = (nonzero(rng, 9) for _ in range(3))
    f = [linear(1, p), linear(1, q), linear(1, r)]
    turned = rng.sample(f, 3)
    cubic = product(product([p, 1], [q, 1]), [r, 1])
    return Drawn("", "".join(f"({x})" for x in f), ["".join(f"({x})" for x in turned), polynomial(cubic), "\\left(" + "\\right)\\left(".join(turned) + "\\right)", " \\cdot ".join(f"({x})" for x in turned)], [f"({f[0]})({f[1]})", f"({linear(1, p + 1)})({f[1]})({f[2]})", f"2({f[0]})({f[1]})({f[2]})", polynomial([cubic[0] + 1, *cubic[1:]]), f"-({f[0]})({f[1]})({f[2]})", f"({f[0]}), ({f[1]}), ({f[2]})", f"({f[0]})+({f[1]})+({f[2]})"])


def rational(rng: random.Random) -> Drawn:
    a, b = nonzero(rng, 9), nonzero(rng, 9)
    p, q = rng.sample(range(-9, 10), 2)
    # a/(x+p) + b/(x+q) = ((a+b)x + aq + bp) / ((x+p)(x+q))
    s, c = a + b, a * q + b * p
    if s == 0:
        return rational(rng)
    bottom = product([p, 1], [q, 1])
    first, second = linear(1, p), linear(1, q)
    right = [f"\\frac{{{b}}}{{{second}}} + \\frac{{{a}}}{{{first}}}", f"\\dfrac{{{linear(s, c)}}}{{({first})({second})}}", f"\\frac{{{linear(s, c)}}}{{{polynomial(bottom)}}}", f"\\frac{{{2 * a}}}{{{linear(2, 2 * p)}}} + \\frac{{{b}}}{{{second}}}", f"\\frac{{{-a}}}{{{linear(-1, -p)}}} + \\frac{{{b}}}{{{second}}}"]
    wrong = [f"\\frac{{{a}}}{{{first}}} - \\frac{{{b}}}{{{second}}}", f"\\frac{{{a + 1}}}{{{first}}} + \\frac{{{b}}}{{{second}}}", f"\\frac{{{linear(s, c + 1)}}}{{({first})({second})}}", f"\\frac{{{linear(s, c)}}}{{{first}}}", f"\\frac{{{a}}}{{{first}}}", f"\\frac{{{a + b}}}{{({first})({second})}}" if c != a + b or s else "0"]
    return Drawn("", f"\\frac{{{a}}}{{{first}}} + \\frac{{{b}}}{{{second}}}", right, wrong)


def multivariate(rng: random.Random) -> Drawn:
    c = rng.randint(2, 9)
    return Drawn("", f"{c}(a+b)^2 - {c}(a-b)^2", [f"{4 * c}ab", f"{4 * c}ba", f"{4 * c} a b", f"{4 * c}a \\cdot b"], [f"{2 * c}ab", f"{4 * c}a", f"{4 * c}a^2b", f"-{4 * c}ab", f"{4 * c}(a+b)", f"{4 * c}aB"])


def lines(rng: random.Random) -> Drawn:
    m, b, k = rng.choice((-1, 1)) * rng.randint(2, 9), nonzero(rng, 15), rng.randint(2, 5)
    y = linear(m, b)
    return Drawn("Find the equation of the line.", f"y = {y}", [f"y={y}", f"{linear(m, 0)} - y {b:+d} = 0", f"y {-b:+d} = {linear(m, 0)}", f"{k}y = {linear(k * m, k * b)}", f"{y} = y", f"y - {linear(m, 0)} = {b}" if m > 0 else f"y + {-m}x = {b}"], [f"y = {linear(m, b + 1)}", f"y = {linear(-m, b)}", f"y = {linear(m, -b)}", f"x = {linear(m, b, 'y')}", f"y = {m}", f"y = {b}", f"{k}y = {y}", f"y > {y}", f"y \\ne {y}"])


def circles(rng: random.Random) -> Drawn:
    h, k, r = nonzero(rng, 9), nonzero(rng, 9), rng.randint(2, 12)
    reference = f"(x{-h:+d})^2 + (y{-k:+d})^2 = {r * r}"
    return Drawn("Find the equation of the circle.", reference, [f"(x{-h:+d})^{{2}}+(y{-k:+d})^{{2}}={r * r}", f"(y{-k:+d})^2 + (x{-h:+d})^2 = {r * r}", f"x^2 + y^2 {-2 * h:+d}x {-2 * k:+d}y {h * h + k * k - r * r:+d} = 0", f"\\left(x{-h:+d}\\right)^2+\\left(y{-k:+d}\\right)^2-{r * r}=0", f"(x{-h:+d})^2+(y{-k:+d})^2={r}^2"], [f"(x{h:+d})^2 + (y{-k:+d})^2 = {r * r}", f"(x{-h:+d})^2 + (y{-k:+d})^2 = {r}", f"(x{-h:+d})^2 - (y{-k:+d})^2 = {r * r}", f"(x{-h:+d})^2 + (y{-k:+d})^2 = {r * r + 1}", f"(x{-h:+d})^2 + (y{-k:+d})^2 < {r * r}", f"({h},{k})", f"{r * r}"])


def assignments(rng: random.Random) -> Drawn:
    f = Fraction(nonzero(rng, 40), rng.choice((1, 2, 3, 5, 7)))
    t, var = ratio(f), rng.choice("xnkmt")
    return Drawn("", t, [f"{var} = {t}", f"{var}=" + ratio(f, "\\dfrac"), f"f(3) = {t}", f"\\theta = {t}", f"a_{{10}} = {t}", f"AB = {t}", f"P(A) = {t}", f"\\text{{Area}} = {t}"], [f"{var} = {ratio(f + 1)}", f"{var} \\ne {t}", f"{var} < {t}", f"{var} = {ratio(-f)}", f"{var} = {t}{var}", f"{var} = {t}, y = {ratio(f + 2)}", f"{t} = {ratio(f + 1)}"])


def bases(rng: random.Random) -> Drawn:
    base = rng.choice((2, 3, 5, 6, 7, 8, 9))
    n = rng.randint(60, 4000)
    digits, left = "", n
    while left:
        digits, left = str(left % base) + digits, left // base
    bumped, left = "", n + 1
    while left:
        bumped, left = str(left % base) + bumped, left // base
    word = {2: "two", 3: "three", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}[base]
    return Drawn("", f"{digits}_{{{base}}}", [f"{digits}_{base}", f"{digits}_{{\\text{{{word}}}}}", f"({digits})_{base}", f"{digits}_{{({base})}}", f"\\text{{{digits}}}_{{{base}}}"], [f"{digits}_{base + 1}", f"{bumped}_{base}", str(n), digits[::-1] + f"_{base}" if digits != digits[::-1] else f"{bumped}_{base}", f"{n}_{{{base}}}", f"{digits}^{base}"])


def ratios(rng: random.Random) -> Drawn:
    a, b = rng.sample((2, 3, 4, 5, 7, 9, 11, 13, 16), 2)
    while gcd(a, b) > 1:
        a, b = rng.sample((2, 3, 4, 5, 7, 9, 11, 13, 16), 2)
    return Drawn("", f"{a}:{b}", [f"{a} : {b}", f"{a}\\colon {b}", f"{a} \\text{{ to }} {b}", f"{a}\\text{{:}}{b}", f"{{{a}}}:{{{b}}}"], [f"{b}:{a}", f"{a}:{b + 1}", f"{a}:{b}:1", f"{a + 1}:{b}", f"{a},{b}", f"({a},{b})", f"{a}"])


def choices(rng: random.Random) -> Drawn:
    letter, other = rng.sample("ABCDE", 2)
    n = rng.randint(2, 99)
    right = [letter, f"({letter})", f"\\text{{({letter})}}", f"\\text{{{letter}}}", f"\\textbf{{({letter})}}", f"\\mathbf{{{letter}}}", f"\\mathrm{{({letter})}}", f"{letter}.", f"({letter}) {n}", f"\\textbf{{({letter})}}\\ {n}", f"{letter}: {n}", f"\\text{{{letter}. }}{n}", f"{letter}) {n}"]
    wrong = [other, f"\\text{{({other})}}", f"{letter}, {other}", f"\\text{{{letter} or {other}}}", f"\\text{{not {letter}}}", f"{letter}{other}", f"({other}) {letter}", f"\\text{{{letter} and {other}}}", letter.lower() * 2, f"{letter}+1", f"{letter}^2", f"-{letter}"]
    return Drawn("Which of these is it?", rng.choice((letter, f"\\text{{({letter})}}", f"({letter})")), rng.sample(right, 7), rng.sample(wrong, 6))


def words(rng: random.Random) -> Drawn:
    word, other = rng.sample(("Evelyn", "Wednesday", "parabola", "ellipse", "even", "odd", "yes", "no", "Alice", "infinitely many", "none", "green", "isosceles", "north"), 2)
    right = [f"\\text{{{word}}}", word, f"\\textbf{{{word}}}", f"\\mathrm{{{word}}}".replace(" ", "~"), f"\\text{{ {word} }}", f"\\text{{{word}.}}", f"\\text{{{word.capitalize()}}}", f"\\textit{{{word}}}"]
    return Drawn("", f"\\text{{{word}}}", rng.sample(right, 5), [f"\\text{{{other}}}", other, f"\\text{{not {word}}}", f"\\text{{{word} or {other}}}", f"\\text{{{word}, {other}}}", word[:-1], word + "s", f"\\text{{neither {word} nor {other}}}"])


def times(rng: random.Random) -> Drawn:
    hour, minute = rng.randint(1, 12), rng.randint(10, 59)
    return Drawn("", f"{hour}:{minute}\\text{{ p.m.}}", [f"{hour}:{minute} \\text{{ p.m.}}", f"\\text{{{hour}:{minute} p.m.}}", f"{hour}:{minute}\\text{{ PM}}", f"{hour}:{minute} \\mathrm{{PM}}"], [f"{hour}:{minute}\\text{{ a.m.}}", f"{hour % 12 + 1}:{minute}\\text{{ p.m.}}", f"{hour}:{(minute + 1) % 60:02d}\\text{{ p.m.}}", f"{hour}"])


def trig(rng: random.Random) -> Drawn:
    k = rng.randint(2, 9)
    return Drawn("", f"{k}\\sin 2x", [f"{2 * k}\\sin x \\cos x", f"{k}\\sin(2x)", f"{2 * k}\\cos x\\sin x", f"{k} \\sin{{2x}}"], [f"{k}\\sin x", f"{k}\\cos 2x", f"{2 * k}\\sin x", f"{k}\\sin^2 x", f"-{k}\\sin 2x", f"\\sin {2 * k}x", f"{k}\\sin 2y"])


def radical_polynomials(rng: random.Random) -> Drawn:
    a, b = nonzero(rng, 9), rng.randint(2, 9)
    return Drawn("", f"\\frac{{x{a:+d}}}{{\\sqrt{{x^2+{b}}}}}", [f"\\frac{{x{a:+d}}}{{(x^2+{b})^{{1/2}}}}", f"(x{a:+d})(x^2+{b})^{{-1/2}}", f"\\frac{{(x{a:+d})\\sqrt{{x^2+{b}}}}}{{x^2+{b}}}"], [f"\\frac{{x{-a:+d}}}{{\\sqrt{{x^2+{b}}}}}", f"\\frac{{x{a:+d}}}{{x^2+{b}}}", f"\\frac{{x{a:+d}}}{{\\sqrt{{x^2-{b}}}}}", f"\\frac{{\\sqrt{{x^2+{b}}}}}{{x{a:+d}}}", f"\\frac{{x{a:+d}}}{{\\sqrt{{x+{b}}}}}"])


FAMILIES: list[Callable[[random.Random], Drawn]] = [integers, separated, units, bare_units, money, fractions, decimals, percent, percent_unasked, scientific, radicals, surds, nested_radicals, cube_roots, big_powers, factorials, pies, logs, exponentials, complexes, polar, tuples, sets, roots, plus_minus, intervals, unions, inequalities, matrices, expanded, factored, rational, multivariate, lines, circles, assignments, bases, ratios, choices, words, times, trig, radical_polynomials]

# Frames: where models put an answer; `d` is another one, which must not count
FRAMES = [
    "The answer is \\boxed{{{a}}}.",
    "$\\boxed{{{a}}}$",
    "So we get\n\\[\n\\boxed{{{a}}}\n\\]",
    "Thus the final answer is:\n\n$$\\boxed{{{a}}}$$",
    "<think>\nMaybe it is \\boxed{{{d}}}. Wait, let me check.\n</think>\n\nThe final answer is $\\boxed{{{a}}}$.",
    "First, $\\boxed{{{d}}}$ looks right, but it is not. Therefore $\\boxed{{{a}}}$",
    "### Step 3\nThe result is 17.\n\n### Final Answer\n\n$\\boxed{{{a}}}$",
    "Final Answer: The final answer is ${a}$. I hope it is correct.",
    "**Final Answer:** ${a}$",
    "**Answer:** \\( {a} \\)",
    "<answer>{a}</answer>",
    "<think>I try 4 and 5.</think><answer>\\boxed{{{a}}}</answer>",
    "The answer is: ${a}$",
    "Therefore, the answer is ${a}$.",
    "#### {a}",
    "\\boxed{{ {a} }}\n",
    "\\(\\boxed{{{a}}}\\)\n\nThis can be checked by putting it in.",
    "$$\n\\begin{{aligned}}\n&= \\boxed{{{a}}}\n\\end{{aligned}}\n$$",
    "**$\\boxed{{{a}}}$**",
    "\\fbox{{{a}}}",
]
# fmt: on


def drawn_cases(per_family: int = 8, seed: int = 0) -> Iterator[tuple[str, str, str, str, str, bool]]:
    """Family, question, reference, the bare answer, the completion, and whether it is right."""
    rng = random.Random(seed)
    for family in FAMILIES:
        for _ in range(per_family):
            drawn = family(rng)
            for right, answers in ((True, drawn.right), (False, drawn.wrong)):
                for answer in dict.fromkeys(answers):
                    decoy = drawn.reference if not right else rng.choice(drawn.wrong)
                    # A line break in a matrix ends a line that is an answer.
                    frame = rng.choice(FRAMES if "\n" not in answer else FRAMES[:4])
                    yield (
                        family.__name__,
                        drawn.question,
                        drawn.reference,
                        answer,
                        frame.format(a=answer, d=decoy),
                        right,
                    )
