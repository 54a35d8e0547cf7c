"""A run from its configuration to its end: preparing, starting, going on after deaths, and what it will cost."""
