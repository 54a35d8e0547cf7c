"""The value that flows out of `lora`: one immutable snapshot of a low-rank adapter."""

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Adapter:
    """One LoRA snapshot: never overwritten, named by its run, its version and its content.

    Version 0 is a real adapter with B = 0, so sampling never has a special "no adapter yet" case.

    Example: ``Adapter(run="addition-7f3a", version=12, payload=pack(tensors, description))``
    """

    run: str
    version: int
    payload: bytes
    """A safetensors file, whose header also describes the adapter (see `lora.peft.files`); a few MB."""
    name: str = field(init=False)
    """Unique for every policy that ever existed: vLLM keys its prefix cache by this name.

    The content is part of it, because a run that goes back to a checkpoint reaches the same version a second time.
    """

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.payload).hexdigest()[:12]
        object.__setattr__(self, "name", f"{self.run}-v{self.version:06d}-{digest}")
