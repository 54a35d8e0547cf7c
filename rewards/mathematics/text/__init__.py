"""Rewrites text as text, before anything is parsed: signs, words, numerals in words, units, formulas in a question."""
