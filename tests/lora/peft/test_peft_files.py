"""Adapters as files: nothing is lost on the way, a damaged one is refused, and PEFT agrees with us."""

import contextlib
import itertools
import json
import math
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lora.config import LoraConfig
from lora.peft.config import describe
from lora.peft.description import Description
from lora.peft.files import pack, read_peft, unpack, write_peft
from lora.trainable.inject import inject
from lora.trainable.lora_layers import LoraLayers
from lora.types import Adapter
from rl.run.export import lora_config

IDS = torch.arange(1, 13)[None]
TARGETS = LoraConfig().targets
DESCRIPTION = Description("some/model", 2, 32.0, TARGETS)


def base() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    ).eval()


def adapted(rank: int = 2, alpha: float = 32.0, *, lm_head: bool = False, size: float = 0.05) -> tuple[Any, LoraLayers]:
    model = base()
    layers = inject(model, LoraConfig(rank=rank, alpha=alpha, lm_head=lm_head))
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B.normal_(std=size)
    return model, layers


def adapter_of(layers: LoraLayers, alpha: float = 32.0, version: int = 3) -> Adapter:
    rank = next(iter(layers.values())).lora_A.shape[0]
    targets = tuple(dict.fromkeys(name.rpartition(".")[2] for name in layers))
    return Adapter("run", version, pack(layers.tensors(), Description("some/model", rank, alpha, targets)))


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(IDS).logits


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


names = st.from_regex(r"model(\.[a-z0-9_]{1,8}){1,3}\.lora_[AB]", fullmatch=True)
descriptions = st.builds(
    Description,
    base_model=st.text(max_size=20),
    rank=st.integers(1, 512),
    alpha=st.floats(1e-3, 1e3),
    targets=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True).map(
        lambda targets: tuple(sorted(targets))
    ),
)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([torch.float32, torch.bfloat16]))


@given(st.dictionaries(names, shapes, min_size=1, max_size=4), descriptions)
def test_what_is_packed_is_unpacked(shapes: dict[str, tuple[int, int, torch.dtype]], description: Description) -> None:
    tensors = {name: torch.randn(rows, columns).to(dtype) for name, (rows, columns, dtype) in shapes.items()}
    unpacked, same = unpack(pack(tensors, description))
    assert equal(tensors, unpacked)
    assert same == description
    assert len({pack(tensors, description) for _ in range(8)}) == 1, "an adapter is named by its bytes"


@given(descriptions)
def test_pefts_configuration_keeps_the_description(description: Description) -> None:
    assert describe(json.loads(json.dumps(description.to_peft()))) == description


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    _, layers = adapted()
    adapter = adapter_of(layers)
    back = read_peft(write_peft(adapter, tmp_path / "deep" / "adapter"), run=adapter.run, version=adapter.version)
    assert (back.run, back.version) == (adapter.run, adapter.version)
    assert equal(unpack(adapter.payload)[0], unpack(back.payload)[0])
    assert read_peft(tmp_path / "deep" / "adapter").run == "adapter"


# --- PEFT ---


@pytest.mark.parametrize(("rank", "alpha", "lm_head"), [(1, 32.0, False), (4, 8.5, False), (2, 32.0, True)])
def test_peft_loads_what_we_save_and_gives_the_same_logits(
    tmp_path: Path, rank: int, alpha: float, lm_head: bool
) -> None:
    model, layers = adapted(rank, alpha, lm_head=lm_head)
    write_peft(adapter_of(layers, alpha), tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(base(), str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(theirs), logits(model), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(logits(model), logits(base()), atol=1e-3)


def test_we_load_what_peft_saves_and_give_the_same_logits(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = PeftLoraConfig(r=4, lora_alpha=16, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    theirs = get_peft_model(base(), config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    tensors, description = unpack(read_peft(tmp_path / "theirs").payload)
    assert (description.rank, description.alpha, set(description.targets)) == (4, 16.0, set(TARGETS))
    model = base()
    inject(model, LoraConfig(rank=description.rank, alpha=description.alpha)).load(tensors)
    torch.testing.assert_close(logits(model), logits(theirs), rtol=1e-5, atol=1e-6)


PEFT_WAYS: dict[str, dict[str, Any]] = {
    "rsLoRA": {"use_rslora": True, "target_modules": ["q_proj", "down_proj"]},
    "a regular expression": {"target_modules": r".*\.(q|v)_proj"},
    "a text": {"target_modules": "all-linear"},
    "ranks of single layers": {
        "target_modules": ["q_proj", "k_proj", "down_proj"],
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.down_proj": 6, "proj": 3},
    },
    "alphas of single layers": {"target_modules": ["q_proj", "up_proj"], "alpha_pattern": {"layers.0.*q_proj": 5}},
    "both, rank-stabilised": {
        "target_modules": "all-linear", "use_rslora": True, "rank_pattern": {"up_proj": 1, "v_proj": 2},
        "alpha_pattern": {"v_proj": 3, "o_proj": 7},
    },
    "an initialisation of A alone": {"target_modules": ["v_proj"], "init_lora_weights": "orthogonal"},
}  # fmt: skip


@pytest.mark.parametrize("way", PEFT_WAYS)
def test_we_load_an_adapter_however_peft_was_told_of_it(tmp_path: Path, way: str) -> None:
    torch.manual_seed(1)
    theirs = get_peft_model(base(), PeftLoraConfig(r=4, lora_alpha=16, task_type="CAUSAL_LM", **PEFT_WAYS[way]))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    adapter = read_peft(tmp_path / "theirs")
    model = base()
    inject(model, lora_config(adapter)).load(unpack(adapter.payload)[0])
    torch.testing.assert_close(logits(model), logits(theirs), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(logits(model), logits(base()), atol=1e-3)
    again = PeftModel.from_pretrained(base(), str(write_peft(adapter, tmp_path / "ours")))
    torch.testing.assert_close(logits(again), logits(theirs), rtol=1e-5, atol=1e-6)


def test_rslora_on_experts_of_another_rank_is_refused() -> None:
    config = {
        "peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ["q_proj"],
        "target_parameters": ["experts.gate_up_proj"], "rank_pattern": {"experts.gate_up_proj": 2},
    }  # fmt: skip
    with pytest.raises(ValueError, match="not plain LoRA: use_rslora gives its experts"):
        describe(config)
    alike = describe(config | {"rank_pattern": {}})
    assert (alike.alpha, alike.expert_rank) == (16.0, 4)


NOT_PLAIN: dict[str, dict[str, Any]] = {
    "use_dora": {"use_dora": True},
    "bias": {"bias": "all"},
    "lora_bias": {"lora_bias": True},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "trainable_token_indices": {"trainable_token_indices": [3]},
    "init_lora_weights": {"init_lora_weights": "pissa"},
    "alora_invocation_tokens": {"alora_invocation_tokens": [5, 6]},
    "layer_replication": {"layer_replication": [[0, 1], [0, 2]]},
}


@pytest.mark.parametrize("key", NOT_PLAIN)
def test_an_adapter_that_is_not_plain_lora_is_refused_by_the_key_that_says_so(tmp_path: Path, key: str) -> None:
    config = PeftLoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **NOT_PLAIN[key])
    get_peft_model(base(), config).save_pretrained(str(tmp_path / "theirs"))
    with pytest.raises(ValueError, match=rf"has {key} = .*only plain LoRA can be read") as caught:
        read_peft(tmp_path / "theirs")
    assert "\n" not in str(caught.value)


def test_a_kind_of_lora_of_tomorrow_is_refused_and_its_keys_that_are_off_are_not(tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    assert describe(config | {"use_xlora": False, "xlora_config": None}).rank == 4
    with pytest.raises(ValueError, match="has use_xlora = True"):
        describe(config | {"use_xlora": True})


# --- damage ---

DAMAGE: dict[str, tuple[str, bytes | None]] = {
    "no weights": ("adapter_model.safetensors", None),
    "no configuration": ("adapter_config.json", None),
    "empty weights": ("adapter_model.safetensors", b""),
    "short weights": ("adapter_model.safetensors", b"\x10\0\0\0\0\0\0\0{}"),
    "other weights": ("adapter_model.safetensors", bytes(range(256)) * 4),
    "cut configuration": ("adapter_config.json", b'{"peft_type": "LORA", "r'),
    "empty configuration": ("adapter_config.json", b""),
    "binary configuration": ("adapter_config.json", b"\xff\xfe\x00"),
    "a list for a configuration": ("adapter_config.json", b"[1]"),
    "no rank": ("adapter_config.json", b'{"peft_type": "LORA", "lora_alpha": 8, "target_modules": ["q_proj"]}'),
    "a wrong rank": (
        "adapter_config.json",
        b'{"peft_type": "LORA", "r": [], "lora_alpha": 8, "target_modules": ["q_proj"]}',
    ),
    **{
        name: ("adapter_config.json", text)
        for name, text in {
            "a rank of text": b'{"peft_type": "LORA", "r": "x", "lora_alpha": 8, "target_modules": ["q_proj"]}',
            "a rank below 0": b'{"peft_type": "LORA", "r": -1, "lora_alpha": 8, "target_modules": ["q_proj"]}',
            "a rank of 0": b'{"peft_type": "LORA", "r": 0, "lora_alpha": 8, "target_modules": ["q_proj"]}',
            "a rank that is not the weights'": b'{"peft_type": "LORA", "r": 3, "lora_alpha": 8, "target_modules": ["q_proj"]}',
            "a rank that is true": b'{"peft_type": "LORA", "r": true, "lora_alpha": 8, "target_modules": ["q_proj"]}',
            "alpha NaN": b'{"peft_type": "LORA", "r": 2, "lora_alpha": NaN, "target_modules": ["q_proj"]}',
            "alpha 0": b'{"peft_type": "LORA", "r": 2, "lora_alpha": 0, "target_modules": ["q_proj"]}',
            "targets that are numbers": b'{"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": [1]}',
            "targets of two kinds": b'{"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["q_proj", 1]}',
            "a base that is a list": b'{"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["q_proj"], "base_model_name_or_path": [1]}',
            "a pattern that is a list": b'{"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["q_proj"], "rank_pattern": [1]}',
            "a configuration of brackets": b"[" * 100_000,
            "a configuration of zeros": bytes(2**25),
        }.items()
    },
    "no targets": ("adapter_config.json", b'{"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": null}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_adapter_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    _, layers = adapted()
    directory = write_peft(adapter_of(layers), tmp_path / "adapter")
    file, content = DAMAGE[damage]
    if content is None:
        (directory / file).unlink()
    else:
        (directory / file).write_bytes(content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message differs)
        read_peft(directory)
    assert str(directory) in str(caught.value)
    assert "\n" not in str(caught.value)


def whole(header: dict[str, str] | None, tensor: Tensor) -> bytes:
    return safetensors.torch.save({"model.weight": tensor}, header)


FACTS = {"base_model": "m", "rank": 0, "alpha": 1.0, "targets": [], "expert_rank": None}
ONES = torch.ones(2, 2)
NOT_OURS: dict[str, bytes] = {
    "no header": whole(None, ONES),
    "another program's header": whole({"format": "pt", "theirs": "{}"}, ONES),
    "a header that is no JSON": whole({"adapter": "x"}, ONES),
    "a header that is a list": whole({"adapter": "[1]"}, ONES),
    "an empty header": whole({"adapter": "{}"}, ONES),
    "a header of brackets": whole({"adapter": "[" * 100_000}, ONES),
    "a header of other kinds": whole({"adapter": json.dumps(FACTS | {"rank": "x"})}, ONES),
    "targets that are numbers": whole({"adapter": json.dumps(FACTS | {"targets": [1]})}, ONES),
    "NaN": whole({"adapter": json.dumps(FACTS)}, ONES * math.nan),
    "infinity": whole({"adapter": json.dumps(FACTS)}, ONES / 0),
    "whole numbers": whole({"adapter": json.dumps(FACTS)}, ONES.long()),
    "nothing": b"",
    "half": whole({"adapter": json.dumps(FACTS)}, ONES)[:-3],
}


@pytest.mark.parametrize("other", NOT_OURS)
def test_weights_that_we_did_not_write_are_refused_in_one_line(tmp_path: Path, other: str) -> None:
    (tmp_path / "policy.safetensors").write_bytes(NOT_OURS[other])
    with pytest.raises(ValueError, match="is a damaged adapter: ") as caught:
        read_peft(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_we_wrote_are_read(tmp_path: Path) -> None:
    (tmp_path / "policy.safetensors").write_bytes(whole({"adapter": json.dumps(FACTS)}, ONES))
    assert torch.equal(unpack(read_peft(tmp_path).payload)[0]["model"], ONES)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_adapter_of_a_run_that_diverged_is_refused(tmp_path: Path, value: float) -> None:
    _, layers = adapted()
    with torch.no_grad():
        next(iter(layers.values())).lora_B[0, 0] = value
    with pytest.raises(ValueError, match=r"lora_B holds numbers that are infinite or NaN"):
        read_peft(write_peft(adapter_of(layers), tmp_path / "adapter"))


@pytest.mark.parametrize("other", ["directory", "fifo", "device"])
@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json", "policy.safetensors"])
def test_an_adapter_of_other_things_than_files_is_refused_at_once(tmp_path: Path, file: str, other: str) -> None:
    directory = write_peft(adapter_of(adapted()[1]), tmp_path / "adapter")
    (directory / file).unlink(missing_ok=True)
    {"directory": Path.mkdir, "fifo": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero")}[other](
        directory / file
    )
    with pytest.raises(ValueError, match=f"{file} cannot be read as an adapter's: it is a"):
        read_peft(directory)


@pytest.mark.parametrize("other", ["file", "link", "link to nothing"])
def test_what_has_a_run_adapters_name_gives_way_to_it(tmp_path: Path, other: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    best = tmp_path / "best"
    if other == "file":
        best.write_text("x")
    else:
        best.symlink_to(tmp_path / ("elsewhere" if other == "link" else "nowhere"))
    write_peft(adapter_of(adapted()[1]), best)
    read_peft(best)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "elsewhere"]


@given(st.integers(0, 10**6))
def test_weights_cut_off_anywhere_are_refused(cut: int) -> None:
    _, layers = adapted()
    payload = adapter_of(layers).payload
    with pytest.raises((ValueError, safetensors.SafetensorError)):
        safetensors.torch.load(payload[: cut % len(payload)])


# --- replacing ---


def test_writing_replaces_an_older_adapter_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    _, old = adapted()
    _, new = adapted(size=0.1)
    write_peft(adapter_of(old), tmp_path / "best")
    write_peft(adapter_of(new), tmp_path / "best")
    assert equal(unpack(read_peft(tmp_path / "best").payload)[0], dict(new.tensors()))
    assert os.listdir(tmp_path) == ["best"]  # noqa: PTH208


def forked(work: Callable[[], object]) -> int:
    """Do that in a copy of this process; its id. No test code runs there afterwards, whatever happens."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            work()
        os._exit(1)
    return child


def half_written(adapter: Adapter, directory: Path) -> None:
    """As a writer leaves it that is killed in the middle."""

    def die(handle: int) -> None:
        os.ftruncate(handle, os.fstat(handle).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = die
    write_peft(adapter, directory)


@pytest.mark.parametrize("rank", [2, 4], ids=["in the same shape", "in another shape"])
def test_a_writer_killed_half_way_leaves_the_old_adapter(tmp_path: Path, rank: int) -> None:
    _, old = adapted()
    _, new = adapted(rank=rank, size=0.1)
    write_peft(adapter_of(old), tmp_path / "best")
    child = forked(lambda: half_written(adapter_of(new), tmp_path / "best"))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert equal(unpack(read_peft(tmp_path / "best").payload)[0], dict(old.tensors()))
    write_peft(adapter_of(new), tmp_path / "best")
    assert equal(unpack(read_peft(tmp_path / "best").payload)[0], dict(new.tensors()))


def test_an_adapter_is_there_at_every_moment_while_it_is_replaced(tmp_path: Path) -> None:
    """Killed at any point, and seen by a reader at any point."""
    adapters = [adapter_of(adapted(size=size)[1]) for size in (0.05, 0.1)]
    tensors = [unpack(adapter.payload)[0] for adapter in adapters]
    write_peft(adapters[0], tmp_path / "best")

    def forever() -> None:
        for adapter in itertools.cycle(adapters):
            write_peft(adapter, tmp_path / "best")

    def whole() -> bool:
        found = unpack(read_peft(tmp_path / "best").payload)[0]
        return any(equal(found, one) for one in tensors)

    rng = random.Random(0)
    for _ in range(20):
        child = forked(forever)
        try:
            for _ in range(rng.randrange(1, 20)):
                assert whole()
                time.sleep(rng.uniform(0, 0.001))
        finally:
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert whole()


def test_a_version_has_a_name_of_its_own() -> None:
    versions = [Adapter(run, version, b"") for run in ("a", "b") for version in (0, 1, 10)]
    assert len({adapter.name for adapter in versions}) == len(versions)


def test_another_content_has_another_name_though_run_and_version_are_the_same() -> None:
    """As after a roll-back, which reaches a version twice."""
    assert Adapter("a", 1, b"one").name != Adapter("a", 1, b"other").name
    assert Adapter("a", 1, b"one").name == Adapter("a", 1, b"one").name
