"""The stack of a worker that hangs: asked for by a signal, and cut to the lines that its user wrote."""

import signal
import sysconfig

MAX_STACK = 12
"""Calls shown of a process that hangs: the outermost, which are the user's."""
STACK_SIGNAL = signal.SIGUSR1
"""Asks a worker where it is."""


def own_stack(dumped: str, caller: str = "rewards/functions/call.py") -> str:
    """The lines of a dumped stack that are the user's: before those of its caller, and not Python's. None are left of
    a function that awaits something."""
    lines = [line for line in dumped.splitlines() if line.startswith("  File ")]
    ours = next((i for i, line in enumerate(lines) if caller in line), len(lines))
    return "\n".join([line for line in lines[:ours] if not _is_pythons(line)][-MAX_STACK:])


def _is_pythons(line: str) -> bool:
    library = sysconfig.get_paths()["stdlib"]
    return "<frozen " in line or (f'"{library}/' in line and "/site-packages/" not in line)
