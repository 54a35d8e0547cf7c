"""The `rankone` command: every sub-command, and the one line that a mistake gets."""
