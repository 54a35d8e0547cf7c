"""The processes that environments live in: made, called, put to sleep between turns, killed."""
