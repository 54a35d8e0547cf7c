"""The constant of an indefinite integral, which may have any letter."""

from rewards.mathematics.expressions.tree import Negative, Node, Sum, Symbol, walk

_LETTERS = ("C", "c", "K", "k", "C_1", "c_1", "C_0")


def with_constant(reference: Node, answer: Node) -> Node:
    """The answer with the reference's letter for its constant, when both end in one."""
    expected, given = _constant(reference), _constant(answer)
    if (
        expected is None
        or not expected.isupper()
        or given is None
        or expected == given
        or Symbol(expected) in walk(answer)
        or not isinstance(answer, Sum)
    ):
        return answer
    return Sum(tuple(Symbol(expected) if _bare(t) == Symbol(given) else t for t in answer.terms))


def _constant(node: Node) -> str | None:
    """The letter that a sum adds, if it occurs nowhere else in it."""
    if not isinstance(node, Sum):
        return None
    letters = [n.name for n in walk(node) if isinstance(n, Symbol) and n.name in _LETTERS]
    added = [t for t in node.terms if isinstance(_bare(t), Symbol)]
    return letters[0] if len(letters) == 1 and any(_bare(t) == Symbol(letters[0]) for t in added) else None


def _bare(term: Node) -> Node:
    return term.inner if isinstance(term, Negative) else term
