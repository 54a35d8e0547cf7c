"""Calls of tools in several forms, found by vLLM's own parsers in a process that can be killed, and here in Hermes' form."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest
from helpers import chat_model
from helpers.fakes import SameTextGrader, ScriptedEngine
from helpers.tokenizer import byte_tokenizer

from lora.config import ModelConfig
from lora.types import Adapter
from rewards.types import Problem
from rl.algorithm.sampling.groups import Question, sample_groups
from rl.config import EpisodesConfig, PromptConfig, RunConfig, replaced
from rl.episodes.environments.pool import EnvironmentPool
from rl.episodes.open import check_episodes
from rl.episodes.tools.calls import HermesReader, VllmReader
from rl.episodes.tools.environment import load_tools
from rl.episodes.tools.format import parser_of
from rl.episodes.turns.player import EpisodePlayer
from rl.episodes.turns.render import Renderer
from rl.types import Episode
from rollout.config import SamplingConfig
from rollout.vllm.tool_calls import VllmToolCalls

SCHEMA = {
    "type": "function",
    "function": {
        "name": "add", "description": "Add.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}  # fmt: skip
CALLED = [("add", {"a": 1, "b": 2})]
TEXTS = {
    "hermes": 'Well. <tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>',
    "qwen3_coder": (
        "Well. <tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n2\n</parameter>\n</function>\n"
        "</tool_call>"
    ),
    "pythonic": "[add(a=1, b=2)]",
}
HOSTILE = {
    "hermes": ('<tool_call>{"name": "add", "arguments": ' + "[" * 5000, "<tool_call>" * 3000, "<tool_call>null</tool_call>"),
    "qwen3_coder": (
        "<tool_call><function=" * 2000, "<tool_call><function=add><parameter=a>1", "<tool_call>\ud800</tool_call>",
        "<tool_call><function=__import__('os').system('x')></function></tool_call>",
    ),
    "pythonic": (
        "[__import__('os').system('touch OUT')]", "[add(a=" + "(" * 3000, "[add(a=open('/etc/passwd').read())]",
        "[add(a=9**9**9**9)]", "[" * 100000,
    ),
}  # fmt: skip
"""Texts that are no calls, or calls of what is not there."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    directory = tmp_path_factory.mktemp("chat") / "model"
    directory.mkdir()
    chat_model.build(directory)
    return ModelConfig(name=str(directory), max_length=512)


@pytest.mark.vllm
async def test_a_parser_of_vllms_lives_in_a_process_and_survives_what_is_no_call(model: ModelConfig) -> None:
    reader = VllmReader("qwen3_coder", model, EpisodesConfig(tools=("python",), step_timeout=60.0))
    try:
        turn = await reader.read(TEXTS["qwen3_coder"], [SCHEMA])
        assert [(name, json.loads(arguments)) for name, arguments in turn.calls] == CALLED
        assert turn.content.strip() == "Well."
        assert (await reader.read(TEXTS["qwen3_coder"], [])).calls == (), "there is no tool to call"
        for text in HOSTILE["qwen3_coder"]:
            calls = (await reader.read(text, [SCHEMA])).calls
            assert all(isinstance(json.loads(arguments), dict) for _, arguments in calls)
        assert await reader.read(TEXTS["qwen3_coder"], [SCHEMA]) == turn
    finally:
        await reader.close()


@pytest.mark.vllm
@pytest.mark.parametrize("parser", ["hermes", "pythonic"])
def test_vllms_parsers_find_calls_and_execute_none(parser: str, model: ModelConfig, tmp_path: Path) -> None:
    calls = VllmToolCalls(parser, model)
    content, (call,) = calls.read(TEXTS[parser], [SCHEMA])
    assert (call[0], json.loads(call[1])) == CALLED[0]
    assert "add" not in content
    for text in HOSTILE[parser]:
        hostile = text.replace("OUT", str(tmp_path / "out"))
        assert calls.read(hostile, [SCHEMA]) == (hostile, []), "it is a text"
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"vLLM has no parser 'nonesuch'; it has .*hermes"):
        VllmToolCalls("nonesuch", model)


async def test_hermes_form_is_read_here() -> None:
    reader = HermesReader()
    turn = await reader.read(TEXTS["hermes"], [SCHEMA])
    assert (turn.content, [(name, json.loads(arguments)) for name, arguments in turn.calls]) == ("Well.", CALLED)
    for text in (*HOSTILE["hermes"], "no call"):
        assert (await reader.read(text, [SCHEMA])).calls == ()
        assert (await reader.read(text, [SCHEMA])).content == text


class Script:
    """Stands for a parser: finds a call in the first turn, and none in the second."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def read(self, text: str, tools: Any) -> Any:
        from rl.episodes.tools.calls import Turn

        self.texts.append(text)
        assert tools == [SCHEMA]
        if "hang" in text:
            raise TimeoutError("it hangs")
        return Turn("", (("python", '{"code": "6 * 7"}'),)) if len(self.texts) == 1 else Turn(text)

    async def close(self) -> None:
        """Nothing to release."""


@pytest.fixture
async def pool() -> AsyncGenerator[EnvironmentPool]:
    made = EnvironmentPool(load_tools(("python",)), EpisodesConfig(tools=("python",), workers=1))
    yield made
    await made.close()


@pytest.mark.parametrize(("texts", "endings"), [(["call", "42"], ["done"]), (["hang"], ["timeout"])])
async def test_calls_that_a_parser_finds_are_answered_and_one_that_hangs_costs_the_episode(
    pool: EnvironmentPool, texts: list[str], endings: list[str]
) -> None:
    tokenizer: Any = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    renderer = Renderer(tokenizer, PromptConfig(), tools=True)
    made = cast("Any", ScriptedEngine)(texts)
    renderer.raw_text = lambda turn: turn.text  # pyright: ignore[reportAttributeAccessIssue]: its tokens are made up
    player = EpisodePlayer(EpisodesConfig(tools=("python",), max_tokens=400), made, pool, renderer, Script(), [SCHEMA])
    question = Question(0, Problem("p", "6 * 7?", "42"), [1, 2], 0)
    sampling = SamplingConfig(group_size=1, max_tokens=8)
    ((group,), _) = await sample_groups(
        [question], Adapter("r", 0, b""), sampling, player.engine, SameTextGrader(), player
    )
    (episode,) = group.completions
    assert isinstance(episode, Episode)
    assert [episode.ending] == endings
    if endings == ["done"]:
        assert episode.turns[0]["tool_calls"] == [{"name": "python", "arguments": '{"code": "6 * 7"}'}]
        assert (episode.turns[1]["role"], episode.turns[1]["content"]) == ("tool", "42")


@pytest.mark.parametrize(
    ("written", "parser"),
    [
        ("<tool_call>\n<function=name>\n<parameter=key>", "qwen3_coder"),
        ("<tool_call>{{ name }}\n<arg_key>k</arg_key><arg_value>v</arg_value>", "glm45"),
        ('<tool_call>{"name": <function-name>}</tool_call>', "auto"),
        ("[TOOL_CALLS]", "mistral"),
        ("<|python_tag|>", "llama3_json"),
        ("nothing that tells", None),
    ],
)
def test_the_chat_template_tells_the_form_of_calls(written: str, parser: str | None) -> None:
    tokenizer: Any = byte_tokenizer()
    tokenizer.chat_template = (
        "{% if tools %}" + written.replace("{{ name }}", "name") + "{% endif %}{{ messages[0].content }}"
    )
    config = EpisodesConfig(tools=("python",))
    if parser is None:
        with pytest.raises(ValueError, match=r"set episodes.tool_parser to the name"):
            parser_of(config, PromptConfig(), tokenizer)
    else:
        assert parser_of(config, PromptConfig(), tokenizer) == parser
    assert parser_of(replaced(config, tool_parser="pythonic"), PromptConfig(), tokenizer) == "pythonic"


def test_a_parser_does_not_go_with_a_template_that_knows_no_tools(model: ModelConfig) -> None:
    from lora.base.tokenizer import load_tokenizer

    config = RunConfig.model_validate(
        {"model": model, "episodes": {"tools": ["python"], "tool_parser": "pythonic", "max_tokens": 400}}
    )
    with pytest.raises(ValueError, match="described to it in Hermes' form"):
        check_episodes(config, load_tokenizer(model))
