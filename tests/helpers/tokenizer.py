"""A tokenizer of bytes, with a chat template."""

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message.role == 'system' and no_system is defined %}"
    "{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "<{{ message.role }}>{{ message.content }}</{{ message.role }}>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if think is defined and not think %}<nothink>{% endif %}{% endif %}"
)


def byte_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerBase:
    """One token a byte, and a beginning-of-sequence token that the tokenizer puts before plain text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, **{character: i for i, character in enumerate(alphabet, start=1)}}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>")
    tokenizer.chat_template = template
    return tokenizer
