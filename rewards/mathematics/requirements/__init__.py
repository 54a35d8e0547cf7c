"""Tells if an answer that equals the reference is one at all: worked out, as asked for, and not the question again."""
