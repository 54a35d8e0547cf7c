"""Read by Python wherever this folder is on PYTHONPATH: has Ray's processes and our commands made by
`helpers.warm_processes`.

Such a process spends most of its start on loading modules. Here it asks for a copy of a process that has loaded them,
gives it its own arguments, variables, directory and open files, and from then on only stands for it: a signal that it
gets is passed on, it ends as the copy ends, and if it is killed, so is the copy.
"""

import os
import sys

SCRIPTS = (
    "/ray/_private/workers/setup_worker.py", "/ray/_private/workers/default_worker.py", "/ray/dashboard/agent.py",
    "/ray/dashboard/dashboard.py", "/ray/_private/runtime_env/agent/main.py", "/ray/_private/log_monitor.py",
    "/ray/autoscaler/_private/monitor.py", "/bin/rankone",
)  # fmt: skip
GRADER = "from rewards.grading.worker import main"
"""A line of the program that a grading process is started with."""
MODULES = ("rl.cli", "bench.gpu.numbers", "bench.gpu.learner", "bench.gpu.rollout")


def stand_in(address: str, arguments: list[str]) -> None:
    """Ask for the copy and end as it ends; return at once if nobody answers there any more."""
    import contextlib
    import json
    import signal
    import socket

    files = [0, 1, 2]
    if arguments[0] == "-c":
        files += [int(arguments[4]), int(arguments[6])]
        _die_with(int(arguments[5]))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked = json.dumps({"arguments": arguments, "environment": dict(os.environ), "directory": os.getcwd()})  # noqa: PTH109
    try:
        connection.connect(address)
        socket.send_fds(connection, [asked.encode()], files)
        copy = int(connection.recv(20) or 0)
    except OSError:
        return
    if not copy:
        return

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(copy, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, pass_on)
    status = int(connection.recv(20) or -signal.SIGKILL)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)


def _die_with(parent: int) -> None:
    """As a grading process does."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _arguments() -> list[str]:
    """Return the script or module that the interpreter was started with, and its arguments; nothing if it is another."""
    words = sys.orig_argv[1:]
    while words and words[0] in ("-u", "-W", "-X"):
        words = words[1 if words[0] == "-u" else 2 :]
    if words[:1] == ["-m"] and words[1:2] and words[1] in MODULES:
        return words[1:]
    if words[:1] == ["-c"] and len(words) == 7 and GRADER in words[1]:
        return words
    return words if words and words[0].endswith(SCRIPTS) else []


if "RANKONE_WARM_PROCESSES" in os.environ and _arguments():
    stand_in(os.environ["RANKONE_WARM_PROCESSES"], _arguments())
