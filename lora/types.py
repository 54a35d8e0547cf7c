"""What flows out of `lora`: one immutable snapshot of a low-rank adapter."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Adapter:
    """One LoRA snapshot: never overwritten, named by its run and version.

    Version 0 is a real adapter with B = 0, so sampling never has a special "no adapter yet" case.

    Example: ``Adapter(run="addition-7f3a", version=12, payload=pack(tensors, description))``
    """

    run: str
    version: int
    payload: bytes
    """A safetensors file, whose header also describes the adapter (see `lora.files`); a few MB."""

    @property
    def name(self) -> str:
        """Unique for every policy that ever existed: vLLM keys its prefix cache by this name."""
        return f"{self.run}-v{self.version:06d}"
