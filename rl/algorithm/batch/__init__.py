"""Rows for a learner: groups, demonstrations or requests' data, packed, and divided for several steps."""
