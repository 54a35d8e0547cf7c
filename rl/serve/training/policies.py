"""The policies that clients train: on the learner while they are used, and put away while they are not."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from lora.files.atomic_write import write_atomic
from rl.learner.policies.policy import PolicySpec
from rl.serve.errors import ServerFault


@dataclass(slots=True, eq=False)
class ServedPolicy:
    """One client's adapter, and what is known of its state outside the learner."""

    name: str
    """Unique among all that the learner ever has."""
    spec: PolicySpec
    kept: bytes | None = None
    """A state in memory; None for a policy that was not trained yet, or is put away, or too large to be kept."""
    current: bool = True
    """The newest step is in what is kept or put away, so that the policy can be made anew."""
    steps: int = 0
    trained_parameters: int = 0
    """Known once it was on the learner."""
    gradients: bool = False
    """Gradients were added since the last step."""
    gradients_lost: bool = False
    """Some of these died with the learner, so the next step is refused."""
    lost: bool = False
    """Steps died with the learner that were nowhere else."""
    ended: bool = False
    """It is gone, and nothing that still waits for it may find a fresh one in its place."""
    checkpoint: str | None = None
    """The newest checkpoint's path, for messages."""
    on_learner: bool = False
    used: float = field(default_factory=time.monotonic)

    def require_whole(self) -> None:
        """Raises ServerFault if this policy has ended, or steps of it were lost."""
        if self.ended:
            raise ServerFault("this model was ended, by its client or to make room for another: load what it saved")
        if self.lost:
            place = f"go on from {self.checkpoint}" if self.checkpoint else "it was never saved, so begin it anew"
            raise ServerFault(f"the learner died, and with it steps of this model that were not saved: {place}")

    def forget_device(self) -> None:
        """Note that the learner died, and what went with it."""
        self.on_learner = False
        self.gradients_lost = self.gradients_lost or self.gradients
        self.gradients = False
        self.lost = self.lost or not self.current


class Shelf:
    """States of policies that are put away, as files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.iterdir():  # an earlier server's
            left.unlink()

    def put(self, policy: ServedPolicy) -> None:
        """Move a policy's state out of memory."""
        if policy.kept is not None:
            write_atomic(self._file(policy), policy.kept)
            policy.kept = None

    def take(self, policy: ServedPolicy) -> bytes | None:
        """Return a policy's state, from memory or its file; None for one that was not trained yet."""
        if policy.kept is not None or not self.holds(policy):
            return policy.kept
        return self._file(policy).read_bytes()

    def holds(self, policy: ServedPolicy) -> bool:
        """Return True if a policy's state was put away."""
        return self._file(policy).exists()

    def drop(self, policy: ServedPolicy) -> None:
        """Delete a policy's file, which is out of date or no longer needed."""
        self._file(policy).unlink(missing_ok=True)

    def _file(self, policy: ServedPolicy) -> Path:
        return self._directory / f"{policy.name}.safetensors"
