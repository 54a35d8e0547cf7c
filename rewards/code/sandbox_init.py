"""Runs one hostile program with nothing around it. A script of its own: it imports nothing of ours, and is no module.

    python -I -S sandbox_init.py SETTINGS STATUS PYTHON-ARGUMENT...

The kernel's namespaces do it: the program sees a small file system in memory with Python's own files, read only; no
network, no process but its own children, and no user but nobody. Its limits hold for all of its children, and they die
with it. A program could outlive whoever started it, by taking back the signal that it is to get then; so a process of
ours, which it cannot see, is the first of a namespace around its own, and the kernel ends all in there with it. A
filter of system calls takes away what no limit counts: memory that is no process's, and namespaces of its own.

Both are descriptors. ``SETTINGS`` is a file. ``STATUS`` is a pipe that gets a ``+`` when the program begins, and
otherwise what this kernel or machine refuses; then it is closed, so the program cannot write to it. Exits with the
program's status.
"""

import ctypes
import json
import os
import resource
import select
import signal
import struct
import sys

NOBODY = 65534
_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_NEW_USERS, _NEW_PROCESSES = 0x10000000, 0x20000000
_BIND, _RECURSIVE, _PRIVATE, _REMOUNT = 4096, 16384, 1 << 18, 32
_READ_ONLY, _NO_SUID, _NO_DEVICES = 1, 2, 4
_KEPT = 4 | 8 | 1024 | 2048
"""Flags (no devices, no programs, no access times) that a mount keeps if the machine's has them."""
_DEATH_SIGNAL, _SECCOMP, _NO_NEW_PRIVILEGES = 1, 22, 38
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_CALLS = {
    "x86_64": (
        0xC000003E, 56, (272, 308, 29, 64, 68, 240, 319, 447, 425, 323, 321, 298, 101, 310, 311, 248, 249, 250),
    ),
    "aarch64": (
        0xC00000B7, 220, (97, 268, 194, 190, 186, 180, 279, 447, 425, 282, 280, 241, 117, 270, 271, 217, 218, 219),
    ),
}  # fmt: skip
"""By machine: its number in a filter, that of `clone`, and those of the calls that are refused: `unshare`, `setns`,
`shmget`, `semget`, `msgget`, `mq_open`, `memfd_create`, `memfd_secret`, `io_uring_setup`, `userfaultfd`, `bpf`,
`perf_event_open`, `ptrace`, `process_vm_readv`, `process_vm_writev`, `add_key`, `request_key`, `keyctl`."""
_CLONE3, _OF_OTHER_ABIS = 435, 0x40000000
_LOAD, _EQUALS, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of a filter: load a word, jump if it is, is at least, or has a bit of a constant; and the verdict."""
_ALLOW, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x00050001, 0x00050026
"""Verdicts: let it through, EPERM, and ENOSYS, for which C's library takes the older call."""
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Make the room, and run the program in it as the first process of its namespace."""
    status = int(sys.argv[2])
    os.set_inheritable(status, False)  # the program's start closes it
    try:
        with os.fdopen(int(sys.argv[1])) as file:
            settings = json.load(file)
        parent = os.getppid()
        _prctl(_DEATH_SIGNAL, signal.SIGKILL)
        _enter_namespaces()
        _build_root(settings["files"], settings["disk_mb"])
        parent_gone, held = os.pipe()
        if os.getppid() != parent:
            os._exit(1)
        guard = os.fork()
    except Exception as error:
        return _give_up(status, error)
    if guard == 0:
        os.close(held)
        return _guard(parent_gone, status, settings)
    return _leave_with(guard, status)


def _guard(parent_gone: int, status: int, settings: dict[str, int]) -> None:
    """Be the first process of the outer namespace, whose end is the end of all; ends when its parent does.

    The pipe's other end is the parent's alone, and closes with it.
    """
    try:
        _prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if select.select([parent_gone], [], [], 0)[0]:  # it has ended already
            os._exit(1)
        _check(_libc.unshare(_NEW_PROCESSES))
        program = os.fork()
    except Exception as error:
        return _give_up(status, error)
    if program == 0:
        try:
            _become_nobody(settings, status)
            os.write(status, b"+")
            os.execv(sys.executable, [sys.executable, "-I", "-S", *sys.argv[3:]])
        except Exception as error:
            return _give_up(status, error)
    return _leave_with(program, status)


def _leave_with(child: int, status: int) -> None:
    """Wait for a child, and exit with its status."""
    for descriptor in (0, 1, 2, status):
        os.close(descriptor)  # their other ends are to see the program's end, not ours
    _, ended = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(ended) & 0xFF)


def _give_up(status: int, error: Exception) -> None:
    os.write(status, f"{type(error).__name__}: {error}".encode(errors="replace")[:1000])
    os._exit(1)


def _enter_namespaces() -> None:
    """Leave all that is shared. Only a process outside may map users other than our own into the new namespace."""
    outer, start, started = os.getuid(), *os.pipe()
    group = os.getgid()
    mapper = os.fork()
    if mapper == 0:
        os.close(started)
        os.read(start, 1)
        _map_users(os.getppid(), outer, group)
        os._exit(0)
    os.close(start)
    try:
        _check(_libc.unshare(_NAMESPACES))
    finally:
        os.close(started)
        _, status = os.waitpid(mapper, 0)
    if status:
        raise OSError("cannot map users into a namespace")


def _map_users(process: int, user: int, group: int) -> None:
    """Map root to itself for the time of the setup, and nobody; a user who is not root is both, one after the other."""
    try:
        for name, outer in (("uid_map", user), ("gid_map", group)):
            if name == "gid_map" and user != 0:
                _write(f"/proc/{process}/setgroups", "deny")
            mapped = f"0 0 1\n{NOBODY} {NOBODY} 1" if user == 0 else f"{NOBODY} {outer} 1"
            _write(f"/proc/{process}/{name}", mapped)
    except OSError:
        os._exit(1)


def _build_root(files: dict[str, str], disk_mb: int) -> None:
    """Replace the file system by one in memory. ``files`` are written to ``/box``, where the program may write too."""
    _mount(None, "/", None, _PRIVATE | _RECURSIVE)
    root = "/tmp"  # hidden from here on, for us alone
    _mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEVICES, f"size={disk_mb}m,nr_inodes=4096,mode=755")
    for place in dict.fromkeys((*_SYSTEM, os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix))):
        _show(place, root + place)
    for place in (*_DEVICES, "/etc/ld.so.cache", os.path.realpath(sys.executable)):
        if os.path.exists(place) and not os.path.exists(root + place):
            os.makedirs(os.path.dirname(root + place), exist_ok=True)
            os.close(os.open(root + place, os.O_CREAT, 0o644))
            _bind(place, root + place)
    os.makedirs(f"{root}/box", 0o777)
    os.makedirs(f"{root}/tmp", 0o777)
    for name, text in files.items():
        os.makedirs(os.path.dirname(f"{root}/box/{name}"), exist_ok=True)
        with open(f"{root}/box/{name}", "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    for place in ("box", "tmp"):
        os.chmod(f"{root}/{place}", 0o777)
    os.chdir(root)
    old = os.path.join(root, "tmp")
    _check(_libc.pivot_root(root.encode(), old.encode()))
    os.chdir("/")
    _check(_libc.umount2(b"/tmp", 2))  # lazily: all that was there before
    os.chdir("/box")


def _show(place: str, target: str) -> None:
    """Make a directory of the machine's visible, read only; a link stays one."""
    if os.path.islink(place):
        os.symlink(os.readlink(place), target)
    elif os.path.isdir(place) and not os.path.exists(os.path.join(target, "lib")):
        os.makedirs(target, exist_ok=True)
        _bind(place, target)


def _bind(place: str, target: str) -> None:
    _mount(place, target, None, _BIND | _RECURSIVE)
    if os.path.isdir(place):
        flags = _READ_ONLY | _NO_SUID | os.statvfs(target).f_flag & _KEPT
        _mount(None, target, None, _BIND | _REMOUNT | flags)


def _become_nobody(settings: dict[str, int], status: int) -> None:
    """Give up all rights, set the limits, which hold for every child too, and close all but the three and `status`."""
    ours = 2  # processes of this file that are of the same user
    if os.getuid() == 0:
        ours = 0
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    for limit, value in (
        (resource.RLIMIT_AS, settings["memory_mb"] * 2**20),
        (resource.RLIMIT_CPU, settings["cpu_s"]),
        (resource.RLIMIT_FSIZE, settings["disk_mb"] * 2**20),
        (resource.RLIMIT_NPROC, settings["processes"] + ours),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    os.closerange(3, status)
    os.closerange(status + 1, 256)
    os.environ.clear()
    os.environ.update({"HOME": "/box", "TMPDIR": "/box", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"})
    _prctl(_NO_NEW_PRIVILEGES, 1)
    _filter_calls(os.uname().machine)


def _filter_calls(machine: str) -> None:
    """Refuse the calls of `_CALLS` to this process and all that come of it."""
    if machine not in _CALLS:
        raise OSError(f"no filter of system calls is known for {machine}")
    number, clone, refused = _CALLS[machine]
    flags = 16  # the place of the first argument's lower half
    code = [
        (_LOAD, 0, 0, 4), (_EQUALS, 1, 0, number), (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, _OF_OTHER_ABIS), (_RETURN, 0, 0, _REFUSE),
        *(line for call in refused for line in ((_EQUALS, 0, 1, call), (_RETURN, 0, 0, _REFUSE))),
        (_EQUALS, 0, 1, _CLONE3), (_RETURN, 0, 0, _UNKNOWN),
        (_EQUALS, 0, 3, clone), (_LOAD, 0, 0, flags), (_HAS_BITS, 0, 1, _NEW_USERS), (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    lines = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    _check(_libc.prctl(_SECCOMP, ctypes.c_ulong(2), struct.pack("HxxxxxxQ", len(code), ctypes.addressof(lines)), 0, 0))


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _check(_libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]))


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _check(returned: int) -> None:
    if returned != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
