"""Tells if an answer that equals the reference is one at all.

It leaves no calculation to do (`unevaluated`), does not say the question again (`restatement`), and has what the
question asks for: `asked_form` (with `expression_forms`), `asked_factors`, `asked_order`.
"""
