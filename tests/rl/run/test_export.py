"""Adapters out of a run: as PEFT directories, or merged into models that answer the same."""

from pathlib import Path
from typing import Any, Literal

import pytest
import safetensors.torch
import torch
from helpers.reference import save_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora.base.tiny_model import tiny_tokenizer
from lora.config import LoraConfig, ModelConfig
from lora.load import load_adapted
from lora.peft.description import Description
from lora.peft.files import pack, read_peft, unpack, write_peft
from lora.types import Adapter
from rl.config import RunConfig
from rl.run.directory import RunDirectory
from rl.run.export import base_of, export_adapter, export_merged, find_adapter, lora_config

IDS = torch.arange(3, 15)[None]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits.float()


def adapted_logits(model: ModelConfig, adapter: Adapter) -> torch.Tensor:
    adapted = load_adapted(model, lora_config(adapter))
    adapted.layers.load(unpack(adapter.payload)[0])
    return logits(adapted.model)


def base_logits(model: ModelConfig) -> torch.Tensor:
    return logits(load_adapted(model, LoraConfig()).model)


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    """Untied, so that an adapted output layer can be merged too."""
    save_tiny("llama", tmp_path / "model")
    tiny_tokenizer().save_pretrained(str(tmp_path / "model"))
    return ModelConfig(name=str(tmp_path / "model"), dtype="float32")


@pytest.mark.parametrize(
    "lora", [LoraConfig(), LoraConfig(rank=4, alpha=10), LoraConfig(rank=2, lm_head=True)], ids=str
)
def test_a_merged_model_answers_as_the_adapted_one(
    tmp_path: Path, model: ModelConfig, make_adapter: Any, lora: LoraConfig
) -> None:
    adapter = make_adapter(model, lora)
    export_merged(adapter, model, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    torch.testing.assert_close(logits(merged), adapted_logits(model, adapter), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(merged), base_logits(model), atol=1e-2)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").encode("7 + 8")


def test_a_model_with_tied_embeddings_keeps_its_embeddings_when_its_output_layer_is_merged(
    tmp_path: Path, tiny_model: ModelConfig, make_adapter: Any
) -> None:
    adapter = make_adapter(tiny_model, LoraConfig(lm_head=True))
    export_merged(adapter, tiny_model, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    torch.testing.assert_close(logits(merged), adapted_logits(tiny_model, adapter), rtol=1e-4, atol=1e-4)


def test_merging_in_bfloat16_rounds_the_sum_and_nothing_else(
    tmp_path: Path, model: ModelConfig, make_adapter: Any
) -> None:
    adapter = make_adapter(model, LoraConfig())
    export_merged(adapter, model.model_copy(update={"dtype": "bfloat16"}), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert merged.dtype == torch.bfloat16
    adapted = load_adapted(model, lora_config(adapter))
    adapted.layers.load(unpack(adapter.payload)[0])
    for name, layer in adapted.layers.items():
        whole = adapted.model.get_submodule(name).base.weight + layer.scale * layer.lora_B @ layer.lora_A
        assert torch.equal(merged.get_submodule(name).weight, whole.bfloat16())


def test_an_exported_adapter_is_the_runs(tmp_path: Path, tiny_model: ModelConfig, make_adapter: Any) -> None:
    best, last = (make_adapter(tiny_model, LoraConfig(rank=2), seed=seed) for seed in (1, 2))
    write_peft(best, tmp_path / "run" / "adapters" / "best")
    write_peft(last, tmp_path / "run" / "adapters" / "last")
    for which, adapter in (("best", best), ("last", last)):
        found = find_adapter(tmp_path / "run", which)
        assert found.run == "run"
        exported = read_peft(export_adapter(found, tmp_path / which))
        expected = unpack(adapter.payload)
        for name, tensor in unpack(exported.payload)[0].items():
            assert torch.equal(tensor, expected[0][name])


def test_an_adapters_own_shape_is_read_from_it(tiny_model: ModelConfig, make_adapter: Any) -> None:
    for lora in (LoraConfig(rank=3, alpha=7), LoraConfig(lm_head=True, targets=("q_proj",))):
        assert lora_config(make_adapter(tiny_model, lora)).model_dump(exclude={"allow_large_rank"}) == lora.model_dump(
            exclude={"allow_large_rank"}
        )


def test_what_is_there_is_never_written_over(tmp_path: Path, tiny_model: ModelConfig, make_adapter: Any) -> None:
    adapter = make_adapter(tiny_model, LoraConfig())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("")
    for export in (
        lambda: export_adapter(adapter, tmp_path / "out"),
        lambda: export_merged(adapter, tiny_model, tmp_path / "out"),
    ):
        with pytest.raises(ValueError, match="not empty"):
            export()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


@pytest.mark.parametrize("merge", [False, True])
def test_a_place_that_is_no_directory_is_refused(
    tmp_path: Path, tiny_model: ModelConfig, make_adapter: Any, merge: bool
) -> None:
    adapter = make_adapter(tiny_model, LoraConfig())
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to("nowhere")
    for out in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / "link", tmp_path / ("x" * 300)):
        with pytest.raises(ValueError, match="--out"):
            export_merged(adapter, tiny_model, out) if merge else export_adapter(adapter, out)
    assert (tmp_path / "file").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_a_sum_that_is_no_number_is_no_model(tmp_path: Path, model: ModelConfig, make_adapter: Any) -> None:
    weights = tmp_path / "model" / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    tensors["model.norm.weight"][0] = torch.nan
    safetensors.torch.save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=r"merged model is of no use: model.norm.weight holds .* NaN"):
        export_merged(make_adapter(model, LoraConfig()), model, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("lacking", ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"])
def test_a_model_that_lacks_weights_is_refused_and_none_are_made_up(
    tmp_path: Path, model: ModelConfig, make_adapter: Any, lacking: str
) -> None:
    adapter, weights = make_adapter(model, LoraConfig()), tmp_path / "model" / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    del tensors[lacking]
    safetensors.torch.save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=f"lack 1 of its weights, such as {lacking}"):
        export_merged(adapter, model, tmp_path / "merged")


def test_all_weights_of_another_model_are_refused(tmp_path: Path, tiny_model: ModelConfig) -> None:
    policy = Adapter("run", 0, pack({"model.norm": torch.ones(3)}, Description("m", 0, 1.0, ())))
    with pytest.raises(ValueError, match="of another model"):
        export_merged(policy, tiny_model, tmp_path / "merged")


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_source_without_an_adapter_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=name):
        find_adapter(tmp_path / name)


def test_a_merged_model_is_of_the_type_that_its_run_or_its_own_files_had(tmp_path: Path, model: ModelConfig) -> None:
    assert base_of(tmp_path, model.name).dtype == "float32"  # no run: the files of `save_tiny` are
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    for dtype in dtypes:
        RunDirectory.create(tmp_path / dtype, RunConfig(model=ModelConfig(name=model.name, dtype=dtype)))
        assert base_of(tmp_path / dtype, model.name).dtype == dtype
