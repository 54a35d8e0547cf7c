"""The form in which a model calls tools, told by its chat template."""

from transformers import PreTrainedTokenizerBase

from rl.config import EpisodesConfig, PromptConfig
from rl.episodes.tools.prompt import knows_tools

HERMES_NAMES = ("auto", "hermes", "qwen3_json")
"""Parsers that read what our own words for tools ask for."""
MARKS = (
    (("<function=", "<parameter="), "qwen3_coder"),
    (("<arg_key>", "<arg_value>"), "glm45"),
    (("<minimax:tool_call>",), "minimax_m2"),
    (("<|tool_calls_section_begin|>",), "kimi_k2"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<|python_tag|>",), "llama3_json"),
    (('{"name": function name, "parameters": dictionary',), "llama3_json"),
    (("functools[",), "phi4_mini_json"),
    (("<tool_call>",), "auto"),
)
"""Texts that templates write around calls, all of which a template has, and vLLM's parser; the first that fit count.
`auto` is Hermes' form, which is read without vLLM."""


def parser_of(episodes: EpisodesConfig, prompt: PromptConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the name of the parser that finds calls; `auto` is our own, of Hermes' form.

    Raises:
        ValueError: none is named and the template's form is not evident, or the one named is of another form than
            tools are described in.
    """
    named = episodes.tool_parser
    if not knows_tools(tokenizer, prompt):
        if named not in HERMES_NAMES:
            raise ValueError(
                f"episodes.tool_parser = {named!r}: the model's chat template knows no tools, so they are described to "
                'it in Hermes\' form, which "auto" reads: leave it out'
            )
        return named
    if named != "auto":
        return named
    template = str(tokenizer.chat_template)
    for marks, parser in MARKS:
        if all(mark in template for mark in marks):
            return parser
    raise ValueError(
        "the model's chat template does not show in what form it calls tools: set episodes.tool_parser to the name "
        "that vLLM has for it"
    )
