"""A tiny random model with a character tokenizer, made on the fly: real in every part, just small."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ALPHABET: Final = "0123456789+-*/=?., \nabcdefghijklmnopqrstuvwxyz"
"""Short, so that a random policy writes a right answer now and then: without one there is nothing to learn from."""
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
)


def build(directory: Path, *, seed: int = 0, layers: int = 2, hidden: int = 128) -> None:
    """Write a random Llama of about 0.3M parameters and its tokenizer to `directory`, the same for the same seed.

    Weights have standard deviation 1/sqrt(hidden). With the usual 0.02 the logits of so small a model stay within about
    1 of each other whatever the adapter does, and no policy gradient can make it choose. Heads have 32 dimensions, the
    fewest that vLLM serves on a CPU.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer: Any = tiny_tokenizer()
    config: Any = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 32, num_key_value_heads=hidden // 64, max_position_embeddings=512,
        tie_word_embeddings=True, initializer_range=hidden**-0.5,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(config)
    with _without_progress():
        model.save_pretrained(str(directory))
    tokenizer.save_pretrained(str(directory))


@contextmanager
def _without_progress() -> Generator[None]:
    """A bar for a file of 200 kB is noise in a job's log."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def tiny_tokenizer() -> Any:
    """A fast tokenizer with one token a character."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *ALPHABET])}
    core: Any = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
