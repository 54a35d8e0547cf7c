"""Ray's errors sorted by whose fault they are: the code in an actor, the cluster's store, or an actor that is gone."""

import re
import shutil
from typing import cast

import ray
from ray.exceptions import ObjectStoreFullError, OutOfDiskError, RayError, RayTaskError

from rollout.ray import private as ray_private

RAY_STOPS_AT = 0.95
"""Share of a disk from which on Ray writes no more objects to it."""
STORE_FULL = (ObjectStoreFullError, OutOfDiskError)
"""No actor's fault, and not mended by another one."""
_SHORT_OF_MEMORY = re.compile(
    r"low on memory.{0,80}?node \(IP: ([^,]+),.{0,120}?was ([\d.]+ ?GB) used / ([\d.]+ ?GB) limit", re.DOTALL
)
"""The one sentence that matters, in the page of figures with which Ray explains such a kill."""


def is_death(error: BaseException) -> bool:
    """Return True for a Ray error that means: a process or node is gone, cannot be reached, or lost its answer."""
    return isinstance(error, RayError) and not isinstance(error, (RayTaskError, *STORE_FULL))


def cause(error: BaseException) -> BaseException:
    """Return what was raised inside the actor, as it was there."""
    return cast(BaseException, error.cause) if isinstance(error, RayTaskError) else error


def describe_death(error: BaseException) -> str:
    """Return what Ray knows of an actor's end, in one line: which process it was, and how it ended."""
    if (short := _SHORT_OF_MEMORY.search(str(error))) is not None:
        return f"Ray ended it because its node {short[1]} was short of memory, {short[2]} of {short[3]} in use"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    facts = dict(line.split(": ", 1) for line in lines[1:] if line.startswith(("pid: ", "ip: ")))
    where = f"process {facts['pid']} on {facts['ip']}: " if len(facts) == 2 else ""
    reason = (lines or [type(error).__name__])[-1]
    detail = reason.partition(" Some common causes")[0].rpartition("Worker exit detail: ")[2][:300]
    return where + detail + _full_disk_note()


def _full_disk_note() -> str:
    """Return a remark if this node's disk is full: there Ray's processes die without a word."""
    if not ray.is_initialized():
        return ""
    directory = ray_private.session_path()
    try:
        disk = shutil.disk_usage(directory)
    except OSError:  # it is gone, which is not to hide the death
        return ""
    if disk.free > disk.total * (1 - RAY_STOPS_AT):
        return ""
    return (
        f" (this node's disk below {directory} is full, where Ray keeps its logs and what its object store has no room "
        "for: make room there, and go on with --resume)"
    )
