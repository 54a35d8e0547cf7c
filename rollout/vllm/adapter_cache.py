"""The adapter versions that a vLLM engine has loaded, each under a fresh name and a fresh positive id.

vLLM's prefix cache is keyed by an adapter's name: a reused one would serve the previous policy's keys and values.
"""

import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora.peft.files import unpack, write_peft
from lora.types import Adapter
from rollout.vllm.served_names import as_served


@dataclass(slots=True)
class _Loaded:
    """One adapter version that vLLM knows."""

    request: Any
    """vLLM's `LoRARequest`."""
    directory: Path
    run: str
    users: int = 0
    """Requests under way with it."""


class AdapterCache:
    """Writes adapters where vLLM reads them, and unloads those that nobody uses. Not for several threads at once."""

    def __init__(self, unload: Callable[[int], object], directory: Path, *, model_type: str, keep: int) -> None:
        """Adapters are written below `directory`; `unload` takes the id of one; at most `keep` idle ones stay.

        `model_type` is the word of the base model's configuration for its family.
        """
        self._unload = unload
        self._directory = directory
        self._model_type = model_type
        self._keep = keep
        self._loaded: dict[str, _Loaded] = {}
        self._ids = itertools.count(1)

    def load(self, adapter: Adapter) -> Any:
        """Return the `LoRARequest` with which a request asks for this adapter."""
        if adapter.name not in self._loaded:
            self._loaded[adapter.name] = self._write(adapter)
            self._unload_idle()
        self._loaded[adapter.name] = self._loaded.pop(adapter.name)  # the one used last is the last
        return self._loaded[adapter.name].request

    def acquire(self, adapter: Adapter) -> None:
        """Count one more request under way with a loaded adapter."""
        self._loaded[adapter.name].users += 1

    def release(self, adapter: Adapter) -> None:
        """Count one less; an adapter that no request uses may be unloaded."""
        self._loaded[adapter.name].users -= 1
        self._unload_idle()

    def _write(self, adapter: Adapter) -> _Loaded:
        from vllm.lora.request import LoRARequest

        number = next(self._ids)
        # By its number: a name may be longer than a file's may be, as it begins with the name of the run's directory.
        directory = write_peft(as_served(adapter, self._model_type), self._directory / str(number))
        experts = unpack(adapter.payload)[1].expert_rank is not None
        request = LoRARequest(adapter.name, number, str(directory), is_3d_lora_weight=experts)
        return _Loaded(request, directory, adapter.run)

    def _unload_idle(self) -> None:
        """Keep what each run used last, which its next call most likely wants, and every one in use."""
        last = {loaded.run: loaded for loaded in self._loaded.values()}
        for name, loaded in list(self._loaded.items())[:-1]:
            needed_next = last[loaded.run] is loaded and len(self._loaded) <= self._keep
            if loaded.users == 0 and not needed_next:
                idle = self._loaded.pop(name)
                self._unload(idle.request.lora_int_id)
                shutil.rmtree(idle.directory, ignore_errors=True)
