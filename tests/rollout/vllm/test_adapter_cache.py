"""Adapters that vLLM has loaded: a name and an id of their own each, on the disk while they are used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rollout.vllm.adapter_cache import AdapterCache


class Cache(AdapterCache):
    """A cache that notes the ids of adapters that it unloads."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        self.unloaded: list[int] = []
        super().__init__(self.unloaded.append, directory, model_type="llama", keep=keep)


@pytest.fixture
def adapter(tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]) -> Callable[[str, int], Adapter]:
    return lambda run, version: make_adapter(tiny_model, LoraConfig(rank=1), run=run, version=version)


def test_every_version_has_a_name_and_an_id_of_its_own_also_when_it_comes_back(
    tmp_path: Path, adapter: Callable[[str, int], Adapter]
) -> None:
    cache = Cache(tmp_path, keep=1)
    first, second, again = (cache.load(adapter("run", version)) for version in (1, 2, 1))
    assert first.lora_name != second.lora_name
    assert len({first.lora_int_id, second.lora_int_id, again.lora_int_id}) == 3
    assert min(first.lora_int_id, second.lora_int_id, again.lora_int_id) > 0
    assert cache.unloaded == [first.lora_int_id, second.lora_int_id]


def test_a_run_may_have_as_long_a_name_as_a_directory(tmp_path: Path, adapter: Callable[[str, int], Adapter]) -> None:
    request = Cache(tmp_path, keep=1).load(adapter("n" * 255, 1))
    assert request.lora_name.startswith("n" * 255)
    assert Path(request.lora_path).is_dir()


def test_an_adapter_in_use_stays_until_its_last_request_is_done(
    tmp_path: Path, adapter: Callable[[str, int], Adapter]
) -> None:
    cache = Cache(tmp_path, keep=1)
    old = cache.load(adapter("run", 1))
    cache.acquire(adapter("run", 1))
    cache.acquire(adapter("run", 1))
    cache.load(adapter("run", 2))
    cache.release(adapter("run", 1))
    assert cache.unloaded == []
    assert Path(old.lora_path).is_dir()
    cache.release(adapter("run", 1))
    assert cache.unloaded == [old.lora_int_id]
    assert not Path(old.lora_path).exists()


def test_the_latest_of_each_run_is_kept_as_far_as_there_is_room(
    tmp_path: Path, adapter: Callable[[str, int], Adapter]
) -> None:
    cache = Cache(tmp_path, keep=2)
    a, b = cache.load(adapter("a", 1)), cache.load(adapter("b", 1))
    assert cache.load(adapter("a", 1)) is a
    cache.load(adapter("c", 1))
    assert cache.unloaded == [b.lora_int_id], "the one that was used longest ago"
