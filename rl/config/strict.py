"""The base of all settings, and bounds that several of them share."""

from pydantic import BaseModel, ConfigDict

WEEK_S = 7 * 24 * 3600.0
"""Longer than anything here is to be waited for."""
MOST_PROCESSES = 4096
"""Most processes of each kind in a run; also what a placement group of Ray's may hold with some effort."""


class Strict(BaseModel):
    """Immutable, and refuses keys it does not know, and numbers that are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
