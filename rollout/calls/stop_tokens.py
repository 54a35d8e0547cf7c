"""The tokens at which a completion ends, besides the model's own end of sequence."""

from collections.abc import Mapping

from rollout.config import SamplingConfig


def stop_tokens(sampling: SamplingConfig, special: Mapping[str, int]) -> list[int]:
    """Return `stop_token_ids`, and the special tokens that `stop` has as texts, such as `<|im_end|>`.

    A completion's text has no special tokens, so those would be looked for in vain. `special` are the tokenizer's.
    """
    texts = [special[text] for text in sampling.stop if text in special]
    return list(dict.fromkeys([*sampling.stop_token_ids, *texts]))
