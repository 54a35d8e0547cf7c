"""One clear line about what went wrong, and what to do about it."""

import errno

from pydantic import ValidationError

from lora.messages import single_line

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable, or choose another --out"),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV), "see to the disk that it is on"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
}
"""Remedies, where the machine is at fault."""
IN_THE_WAY = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL, errno.ELOOP,
    errno.ENAMETOOLONG, errno.ENXIO, errno.EBUSY, errno.EXDEV,
)  # fmt: skip
"""Errors of a file that is not there, or of something else in its place."""
STORE_FULL = ("ObjectStoreFullError", "OutOfDiskError")
"""Ray's errors when its objects fit neither into memory nor onto the disk that they spill to."""


def one_line(error: Exception) -> str | None:
    """Return what happened and what to do about it, where that is known; None for a fault of the program."""
    if isinstance(error, OSError) and error.errno in REMEDIES:
        place = error.filename or "the run's files"
        return f"cannot use {place}: {error.strerror}; {REMEDIES[error.errno]}, then go on with --resume"
    if isinstance(error, OSError) and error.errno in IN_THE_WAY and error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}; put it right, or name another place"
    if isinstance(error, MemoryError):
        return "this process is out of memory: end what else runs here, or give it a smaller file or model"
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return (
            "the learner is out of memory: set learner.gradient_checkpointing = true, or lower "
            "learner.tokens_per_microbatch and, where single rows are longer, sampling.max_tokens; "
            f"then go on with --resume ({single_line(error, 200)})"
        )
    if type(error).__name__ in STORE_FULL:
        return (
            "Ray's object store is full, and so is the disk it spills to: make room below Ray's --temp-dir, or give "
            "the store more (ray start --object-store-memory), and go on with --resume; `ray memory` says what fills it"
        )
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object[max(0, error.start - 40) : error.end]!a} is no text that can be written: it is not UTF-8"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    is_ours = type(error).__module__.partition(".")[0] in ("lora", "rewards", "rl", "rollout")
    return str(error) if is_ours or isinstance(error, ValueError) else None
