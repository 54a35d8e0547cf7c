"""Reads the text of an answer into a shape that holds expressions.

`answer` is the door, and tries one reader after the other: `notations` with their own spelling (`everyday`,
`matrix_sums`), `words`, `lists`, an `equation`, what is `bracketed`, and last one `scalar`. Expressions are read by
`expression` with its `scanner`, `numeral` and `functions`. A text that has two readings is refused: `Unparsable`.
"""
