"""Graded groups: drawn, seeded, sampled some steps ahead, replaced where they teach nothing, and replayed."""
