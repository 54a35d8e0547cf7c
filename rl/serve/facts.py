"""The served model as clients are told of it, and the bounds of what they may send."""

from dataclasses import dataclass
from typing import Any

from lora.base.load import load_skeleton
from lora.base.resolve import resolve_model
from rl.serve.config import ServeConfig


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The base model."""

    name: str
    names: frozenset[str]
    """Names under which it may be asked for."""
    directory: str
    """Directory of its tokenizer, for clients on this machine."""
    architecture: str
    vocab_size: int
    max_length: int
    max_rank: int

    def require(self, name: str) -> None:
        """Raises ValueError if a client asks for another model."""
        if name not in self.names:
            listed = ", ".join(sorted(self.names))
            raise ValueError(f"this server has no model {name[:200]!r}: ask for {listed}")

    def check_prompt(self, tokens: list[int]) -> None:
        """Raises ValueError for tokens that the model does not have, or for none."""
        if not tokens:
            raise ValueError("the prompt has no tokens: send at least one")
        if strange := next((token for token in tokens if not 0 <= token < self.vocab_size), None):
            raise ValueError(f"the prompt holds token {strange}; the model's tokens are 0 to {self.vocab_size - 1}")

    def max_tokens(self, prompt: list[int], asked: int | None) -> int:
        """Return how many tokens may be sampled. Raises ValueError if they do not fit behind the prompt."""
        room = self.max_length - len(prompt)
        if asked is not None and asked < 1:
            raise ValueError(f"max_tokens must be at least 1, and is {asked}")
        if room < 1 or (asked or 0) > room:
            raise ValueError(
                f"a prompt of {len(prompt)} tokens and max_tokens {asked or 1} do not fit the model's maximum "
                f"context length of {self.max_length} tokens: shorten one of them"
            )
        return asked or room


def read_facts(config: ServeConfig) -> ModelFacts:
    """Read the model's configuration. Raises ValueError if there is no such model."""
    skeleton: Any = load_skeleton(config.model)
    text = skeleton.config.get_text_config()
    return ModelFacts(
        name=config.model_name,
        names=frozenset(config.model_names),
        directory=resolve_model(config.model.name),
        architecture=str(skeleton.config.model_type),
        vocab_size=int(text.vocab_size),
        max_length=config.model.max_length,
        max_rank=config.max_rank,
    )
