"""Tools: what the policy is told of them, what its calls bring, and that it reaches nothing else by them."""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers.fakes import SameTextGrader, ScriptedEngine
from helpers.tokenizer import byte_tokenizer
from tokenizers.decoders import ByteLevel

from lora.types import Adapter
from rewards.types import Problem
from rl.algorithm.sampling.groups import Question, sample_groups
from rl.config import EpisodesConfig, PromptConfig, RunConfig
from rl.data.prompts import Encoder
from rl.episodes.calculator.calculate import calculate
from rl.episodes.environments.pool import EnvironmentPool
from rl.episodes.environments.worker import Call, answer_call
from rl.episodes.tools.environment import load_tools, parsed
from rl.episodes.tools.prompt import prompt_with_tools
from rl.episodes.turns.player import EpisodePlayer
from rl.episodes.turns.render import Renderer
from rl.episodes.verifiers.openai_chat import UnplayableError, chat_request
from rl.types import Episode
from rollout.config import SamplingConfig
from rollout.types import Completion

CHAT = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</{{ message.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
KNOWS_TOOLS = "{% if tools %}<tools>{% for tool in tools %}{{ tool.function.name }} {% endfor %}</tools>{% endif %}"
SECRET = "4815162342"

CALCULATIONS = {
    "1 + 2": "3",
    "print(3 * 4)\nx = 5\nx ** 2": "12\n25",
    "import math\nmath.sqrt(16)": "4.0",
    "from fractions import Fraction as F\nF(1, 3) + F(1, 6)": "1/2",
    "sum(i * i for i in range(10) if i % 2)": "165",
    "a = []\nfor i in range(4):\n    if i == 3: break\n    a.append(i)\na[::-1]": "[2, 1, 0]",
    "n = 0\nwhile n < 5: n += 2\nf'{n} and {1 / 3:.2f}'": "6 and 0.33",
    "a, b = divmod(17, 5)\n1 if a < b else max(a, b)": "3",
    "import math as m\nm.comb(10, 3)": "120",
    "str(12321) == str(12321)[::-1], int(str(120)[::-1]), 'hello'[1:3], (1, 2, 3)[:2]": "(True, 21, 'el', (1, 2))",
    "'12' in '123', '13' in '123', '' in 'a', '12' not in '123', 2 in [1, 2]": "(True, False, True, False, True)",
    "x = 5\ny = [x * 2 for x in range(3)]\ny, x, sum(x for x in y), x": "([0, 2, 4], 5, 6, 5)",
    "a = [1]\na.append()": "Error: append takes one value",
    "1 in '1'": "Error: only a text is in a text",
    "1 / 0": "Error: division by zero",
    "1 +": "Error: line 1: invalid syntax",
    "x = 1": "(nothing was printed)",
}
HOSTILE = (
    # files, network, processes, imports
    "open('/etc/passwd')", "import os", "import socket", "import sys", "from math import *", "__import__('os')",
    "from os import system", "import math.os", "with open('x') as f: pass", "exec('1')", "eval('1')", "compile('1', '', 'eval')",
    "input()", "breakpoint()", "help()",
    # frames, classes, attributes
    "().__class__.__base__.__subclasses__()", "(1).real", "[].append.__self__", "math.__dict__", "math.sqrt.__globals__",
    "getattr(1, 'real')", "type(1)", "globals()", "vars()", "dir()", "print.__self__", "print(print)", "x = math", "x = sum",
    "(lambda: 1)()", "def f(): pass", "class A: pass", "try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__",
    "f'{print.__self__}'", "f'{open}'", "'{0.__class__}'.format(1)", "(i for i in [1]).gi_frame", "async def f(): pass",
    "yield 1", "await x", "global x", "del x", "assert 0", "raise ValueError", "@print\ndef f(): pass", "x: int = 1", "(x := 1)",
    # memory and time
    "9 ** 9 ** 9", "2 ** 20000", "1 << 10 ** 9", "math.factorial(10 ** 9)", "math.comb(10 ** 9, 10 ** 8)", "pow(2, 10 ** 9)",
    "round(5, -10 ** 9)", "'a' * 10 ** 10", "[0] * 10 ** 10", "'%1000000000d' % 1", "f'{1:1000000000}'", "f'{1:>999999999}'",
    "Fraction('1e999999999')", "int('9' * 5000)", "list(range(10 ** 10))", "sum(range(10 ** 10))", "1.5 in range(10 ** 10)",
    "sum([[1]] * 3000, [])", "math.prod([[1] * 1500] + [1] * 5000)",
    "while True: pass", "for i in range(10 ** 10): pass", "x = [1]\nfor i in range(60): x = [x, x]\nx",
    "a = []\na.append(a)\na", "['x' * 9000 + str(i) for i in range(2000)]", "a = ['x' * 4000]\nfor i in range(60): a.append('x' * 4000)",
    # signs that are read as others, names of Python's own, and programs that parsers are slow at
    "ｏｐｅｎ('/etc/passwd')", "１ + open", "оpen('x')", "__builtins__", "__class__", "__loader__", "__file__", "1 + \u202e2", "'\ud800'",
    "abs = print", "[a for a in " * 300, "{" * 1900, "a if " * 700, "lambda x: " * 390, "f(**" * 900, "f'{" * 1300, "a." * 1900 + "b",
    "not " * 990, "@" * 3900, "\\\n" * 1900, "with (" * 600, "match (" * 500, "x = 'a'\nfor i in range(40): x = x + x", "x = 3\nfor i in range(40): x = x * x",
    "print('x' * 1000)\n" * 9, "-" * 3000 + "1", "(" * 300 + ")" * 300, "[" * 90 + "]" * 90, "1" + " + 1" * 1500, "x" * 5000,
    "9" * 3999, "\x00", "1j", "b'x'", "...", "{1: 2}", "[y for x in [1] for y in [2]]", "print(*[1])", "print(1, end='')",
)  # fmt: skip


@pytest.mark.parametrize(("program", "result"), CALCULATIONS.items())
def test_the_calculator_computes(program: str, result: str) -> None:
    assert calculate(program) == result


def test_the_calculator_reaches_nothing_and_ends_soon() -> None:
    started = time.process_time()
    results = {program: calculate(program) for program in HOSTILE}
    assert [program[:60] for program, result in results.items() if not result.startswith("Error: ")] == []
    assert max(map(len, results.values())) <= 2000
    assert time.process_time() - started < 5


class Calling(ScriptedEngine):
    """Writes these texts, a turn each, and reads its prompts back."""

    def __init__(self, turns: Sequence[str]) -> None:
        super().__init__([])
        self._turns = list(turns)
        self.prompts: list[list[int]] = []

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        self.prompts += [list(prompt) for prompt in prompts]
        text = self._turns.pop(0)
        return [[Completion((7, 9), (-1.0, -0.5), text, "stop", 0)] for _ in prompts]


def call(name: str, **arguments: Any) -> str:
    import json

    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


async def played(tools: tuple[str, ...], turns: Sequence[str], template: str = CHAT) -> tuple[Episode, list[str], bool]:
    """Return the episode, every prompt as text, and if it was graded right."""
    tokenizer, episodes = byte_tokenizer(template), EpisodesConfig(tools=tools, workers=1)
    prompt, schemas = prompt_with_tools(PromptConfig(), episodes, tokenizer)
    problem = Problem("p", "What is it?", SECRET)
    question = Question(0, problem, Encoder(tokenizer, prompt, 9999, tools=schemas)(problem), 5)
    pool, engine = EnvironmentPool(load_tools(tools), episodes.model_copy(update={"max_tokens": 9999})), Calling(turns)
    player = EpisodePlayer(
        episodes.model_copy(update={"max_tokens": 9999}), engine, pool, Renderer(tokenizer, prompt, tools=True)
    )
    try:
        groups, _ = await sample_groups(
            [question], Adapter("run", 0, b""), SamplingConfig(group_size=1), engine, SameTextGrader(), player
        )
    finally:
        await pool.close()
    (episode,) = groups[0].completions
    assert isinstance(episode, Episode)
    return episode, [read(tokenizer, p) for p in engine.prompts], groups[0].rewards[0].value == 1


def read(tokenizer: Any, ids: list[int]) -> str:
    """Return the text of tokens of one byte each."""
    return "".join(tokenizer.convert_ids_to_tokens(ids)).replace("Ġ", " ").replace("Ċ", "\n")


TOOLS = '''
import gc
import os


def look(text: str) -> str:
    """Look for a text in this process.

    Args:
        text: The text's halves, with a space between.
    """
    wanted = "".join(text.split())
    objects = [o for o in gc.get_objects() if isinstance(o, (dict, list, tuple))]
    held = any(wanted in str(part) for o in objects for part in (o.values() if isinstance(o, dict) else o) if isinstance(part, str))
    args = open("/proc/self/cmdline").read() + "".join(os.environ.values())
    return f"held {held}, in arguments {wanted in args}"


async def twice(number: float) -> float:
    """Double a number.

    Args:
        number: The number.
    """
    return 2 * number
'''


async def test_calls_are_answered_in_the_chat_and_a_turn_without_one_is_graded(tmp_path: Path) -> None:
    file = tmp_path / "some_tools.py"
    file.write_text(TOOLS)
    turns = [
        call("python", code="17 * 3") + "\n" + call("twice", number=4),
        call("look", text=f"{SECRET[:5]} {SECRET[5:]}"),
        "<tool_call>{'no json'}</tool_call>"
        + call("rm", path="/")
        + call("twice", numbers=4)
        + call("python", code="import os"),
        SECRET,
    ]
    episode, prompts, right = await played(("python", f"{file}:look", f"{file}:twice"), turns)
    answers = [turn["content"] for turn in episode.turns if turn["role"] == "tool"]
    assert answers[:3] == ["51", "8", "held False, in arguments False"]
    assert answers[3:5] == [
        "Error: ValueError: the call is no JSON",
        "Error: ValueError: there is no tool 'rm'; there are: python, look, twice",
    ]
    assert answers[5].startswith("Error: TypeError: twice() got an unexpected keyword argument")
    assert answers[6] == "Error: no module 'os' here: only math and fractions"
    assert (episode.ending, episode.num_turns, episode.text, right) == ("done", 4, SECRET, True)
    assert "<user><tool_response>\n51\n</tool_response></user>" in prompts[1]
    assert '"name": "python"' in prompts[0], "the template knows no tools, so the system text says them"
    assert all(later.startswith(earlier) for earlier, later in pairwise(prompts))


def test_no_answer_to_a_call_is_more_than_a_tokenizer_takes() -> None:
    calls = [call("python", code="'\\ud800'"), call("python", **{"\ud800": 1}), call("\ud800")]
    turn = {"role": "assistant", "content": "".join(calls)}
    answer = answer_call(load_tools(("python",)), Call(Problem("p", "", ""), 0, None, (turn,)))
    messages = answer.observation.listed()
    assert messages[0]["content"] == "?"
    assert len(Renderer(byte_tokenizer(CHAT), PromptConfig(), tools=True).suffix((), messages)) > len(calls)


def test_messages_that_a_template_fails_on_are_refused_as_those_that_it_refuses() -> None:
    calls = CHAT.replace(
        "{{ message.content }}", "{{ message.content }}{% for call in message.tool_calls %}{% endfor %}"
    )
    with pytest.raises(ValueError, match="refuses messages of user behind the policy's turn: 'int' object is not"):
        Renderer(byte_tokenizer(calls), PromptConfig()).suffix((), [{"role": "user", "content": "1", "tool_calls": 5}])


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [1]}]}, {"messages": [{"role": "user", "tool_calls": ["x"]}]},
        {"messages": [{"role": "user", "tool_calls": 5}]}, {"messages": [{"role": "user"}], "response_format": "text"}, [1],
    ],
)  # fmt: skip
def test_a_request_of_another_form_costs_the_episode_and_not_the_run(body: Any) -> None:
    with pytest.raises(UnplayableError, match="its request is no chat"):
        chat_request(body)


def test_the_end_that_the_policy_wrote_is_not_written_again_though_a_template_puts_a_space_before_it() -> None:
    spaced = CHAT.replace("{{ message.content }}", "{{ message.content }} \n")
    tokenizer: Any = byte_tokenizer(spaced)
    tokenizer.backend_tokenizer.decoder = ByteLevel()
    end, renderer = tokenizer.convert_tokens_to_ids("<"), Renderer(tokenizer, PromptConfig())
    written, cut_off = (renderer.suffix(turn, [{"role": "user", "content": "5"}]) for turn in ((7, end), (7, 8)))
    assert read(tokenizer, cut_off) == " \n</assistant><user>5 \n</user><assistant>"
    assert read(tokenizer, written) == "/assistant><user>5 \n</user><assistant>"


def test_several_answers_are_one_message_where_a_template_wants_messages_by_turns() -> None:
    by_turns = (
        "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + CHAT
    )
    renderer = Renderer(tokenizer := byte_tokenizer(by_turns), PromptConfig(), tools=True)
    ids = renderer.suffix((), [{"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}])
    answers = "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"
    assert read(tokenizer, ids) == f"</assistant><user>{answers}</user><assistant>"


async def test_a_template_that_knows_tools_writes_them_and_their_answers_itself() -> None:
    _, prompts, right = await played(("python",), [call("python", code="1 + 1"), "2"], KNOWS_TOOLS + CHAT)
    assert prompts[0].startswith("<tools>python </tools><user>What is it?</user>")
    assert prompts[1].endswith("</assistant><tool>2</tool><assistant>")
    assert not right


def test_a_call_may_lack_its_end_where_a_stop_text_was_it() -> None:
    assert parsed('{"name": "python", "arguments": {"code": "1"}}') == ("python", {"code": "1"})
    for wrong in ('["python"]', '{"name": 1}', '{"name": "a", "arguments": []}', "[" * 9999):
        with pytest.raises(ValueError, match="call is"):
            parsed(wrong)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def mute(x: int): return x", "tool 'mute' cannot be described to the model: .*docstring"),
        ('def bare(x):\n    """Do.\n\n    Args:\n        x: It."""', "tool 'bare' cannot be described to the model: .*type hint"),
        ("other = 1", "has no function"),
    ],
)  # fmt: skip
def test_a_tool_that_cannot_be_described_is_refused(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "bad_tools.py").write_text(source)
    name = "mute" if "mute" in source else "bare"
    config = EpisodesConfig(tools=(f"{tmp_path / 'bad_tools.py'}:{name}",))
    with pytest.raises(ValueError, match=message) as refused:
        prompt_with_tools(PromptConfig(), config, byte_tokenizer(CHAT))
    assert "\n" not in str(refused.value)


def test_tools_need_a_chat() -> None:
    with pytest.raises(ValueError, match=r"set prompt\.chat_template = true"):
        prompt_with_tools(PromptConfig(chat_template=False), EpisodesConfig(tools=("python",)), byte_tokenizer())
    assert RunConfig().episodes.on is False
