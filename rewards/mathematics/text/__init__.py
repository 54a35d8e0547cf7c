"""Rewrites text as text, before anything is parsed.

`normalize` gives each mathematical sign one spelling. The other modules know notations (`brackets`, `formulas`,
`program_notation`), what answers are dressed in (`decoration`, `qualifier`, `extremum`), and the words for numbers,
units, quantities and things.
"""
