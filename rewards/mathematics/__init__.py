"""The mathematics grader: is the final answer of a text the reference?

`rewards.math_answer` puts the layers together. From the top down, each knowing only those below it: `extract` finds
the answer in a text, and `requirements` are met by more than equality; `compare` decides equality of answers,
`parse` reads them, `values` proves equality of expressions; `text` rewrites text; `expressions` are what is
compared.
"""
