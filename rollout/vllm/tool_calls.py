"""Calls of tools in what a model wrote, found by vLLM's parsers of the models' own formats."""

from collections.abc import Mapping, Sequence
from typing import Any

from lora.base.tokenizer import load_tokenizer
from lora.config import ModelConfig


class VllmToolCalls:
    """Finds calls of tools in texts of one format."""

    def __init__(self, parser: str, model: ModelConfig) -> None:
        """Load vLLM's parser of that name. Raises ValueError if it has none, or one that needs another tokenizer."""
        from vllm.tool_parsers import ToolParserManager

        try:
            self._make: Any = ToolParserManager.get_tool_parser(parser)
        except (KeyError, ImportError):
            raise ValueError(
                f"episodes.tool_parser: vLLM has no parser {parser!r}; it has {', '.join(parser_names())}"
            ) from None
        self._tokenizer = load_tokenizer(model)
        self._parser = parser
        try:
            self._make(self._tokenizer, [])
        except Exception as error:  # whatever a parser has against a tokenizer
            reason = " ".join(str(error).split())
            raise ValueError(f"episodes.tool_parser = {parser!r} does not fit the model: {reason}") from None

    def read(self, text: str, tools: Sequence[Mapping[str, Any]]) -> tuple[str, list[tuple[str, str]]]:
        """Return a text without its calls, and each call's tool and arguments, which are JSON if all is well.

        Raises:
            Exception: whatever the parser does with a text that is none of its format.
        """
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        request = ChatCompletionRequest.model_validate(
            {"messages": [], "model": "policy", "tools": list(tools), "tool_choice": "auto"}
        )
        extracted = self._make(self._tokenizer, request.tools).extract_tool_calls(text, request)
        if not extracted.tools_called:
            return text, []
        return extracted.content or "", [(call.function.name, call.function.arguments) for call in extracted.tool_calls]


def parser_names() -> list[str]:
    """Return the names of vLLM's parsers."""
    from vllm.tool_parsers import ToolParserManager

    return sorted(ToolParserManager.list_registered())
