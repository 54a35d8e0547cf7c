"""Tools as the policy is told of them: by the model's chat template, or in Hermes' words where it knows no tools."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import get_json_schema

from rl.config import EpisodesConfig, PromptConfig, replaced
from rl.episodes.tools.environment import ToolFactory, load_tools

HERMES = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{schemas}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""The words of Qwen2.5's and Hermes' templates."""


def schemas_of(tools: Mapping[str, Callable[..., Any]]) -> list[dict[str, Any]]:
    """Return tools as JSON schemas, from their type hints and docstrings.

    Raises:
        ValueError: a function lacks a type hint, a docstring, or a line of it for an argument.
    """
    schemas: list[dict[str, Any]] = []
    for name, function in tools.items():
        try:
            schemas.append(get_json_schema(function))
        except Exception as error:  # transformers has several kinds of them
            reason = " ".join(str(error).split())
            raise ValueError(
                f"tool {name!r} cannot be described to the model: {reason}; give each argument a type hint and a line "
                "under Args: in the docstring"
            ) from None
    return schemas


def prompt_with_tools(
    prompt: PromptConfig, episodes: EpisodesConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[PromptConfig, list[dict[str, Any]]]:
    """Return the prompt's settings, and the schemas that its chat template is given; none if it knows no tools.

    Such a template gets them as a part of the system text.

    Raises:
        ValueError: a tool cannot be loaded or described, or there is no chat template.
    """
    if not episodes.tools:
        return prompt, []
    if not prompt.chat_template:
        raise ValueError("episodes.tools are called in a chat: set prompt.chat_template = true, or name an environment")
    made = cast("ToolFactory", load_tools(episodes.tools).make)
    schemas = schemas_of(made.tools)
    if knows_tools(tokenizer, prompt, schemas):
        return prompt, schemas
    words = words_for(schemas)
    return replaced(prompt, system=words if prompt.system is None else f"{prompt.system}\n\n{words}"), []


def words_for(schemas: Sequence[Mapping[str, Any]]) -> str:
    """Return the description of tools for a model whose chat template has none."""
    return HERMES.format(schemas="\n".join(map(json.dumps, schemas)))


def knows_tools(
    tokenizer: PreTrainedTokenizerBase, prompt: PromptConfig, schemas: Sequence[Mapping[str, Any]] = ()
) -> bool:
    """Return True if the chat template writes down tools."""
    template: Any = tokenizer
    example = [{"type": "function", "function": {"name": "f", "description": "f", "parameters": {"properties": {}}}}]
    texts = [
        template.apply_chat_template(
            [{"role": "user", "content": "1"}], tools=tools, tokenize=False, **prompt.template_options
        )
        for tools in (None, list(schemas) or example)
    ]
    return texts[0] != texts[1]
