"""Decides if an answer says the same as the reference.

`equivalence` is the door: two texts are put into the notation that they share (`shared_notation`,
`multiple_choice`, `comma_readings`), parsed, and compared by their shapes: `lists`, `named_values`, `relation`,
`congruence`, `vector_components`, `angle`. What the question asks for helps with names (`asked_formulas`) and with
units (`asked_unit`, `unit_conversion`).
"""
