"""Prompts: what the template writes is what the policy sees, token for token."""

from typing import Any

import pytest
from helpers.tokenizer import byte_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from rewards.types import Problem
from rl.config import PromptConfig, Shot
from rl.data.prompts import Encoder

SHOTS = (Shot(question="1 + 2 =", answer="3"), Shot(question="2 + 2 =", answer="4"))


TOKENIZER = byte_tokenizer()


def own_encoding(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text)


def prompt(question: str, config: PromptConfig) -> str:
    """The prompt of a question, its ids read back as text."""
    ids = Encoder(TOKENIZER, config, max_tokens=1000)(Problem("p", question, "0"))
    assert all(isinstance(id, int) for id in ids)
    characters = TOKENIZER.convert_ids_to_tokens(ids)
    return "".join(characters).replace("Ġ", " ").replace("Ċ", "\n")


def test_a_chat_opens_the_policys_turn() -> None:
    assert prompt("2 + 3 =", PromptConfig()) == "<s><user>2 + 3 =</user><assistant>"


def test_system_shots_and_suffix_are_turns() -> None:
    config = PromptConfig(system="Add.", suffix=" Think.", shots=SHOTS)
    assert prompt("2 + 3 =", config) == (
        "<s><system>Add.</system>"
        "<user>1 + 2 = Think.</user><assistant>3</assistant>"
        "<user>2 + 2 = Think.</user><assistant>4</assistant>"
        "<user>2 + 3 = Think.</user><assistant>"
    )


def test_plain_text_begins_as_the_tokenizer_begins_texts() -> None:
    assert prompt("2 + 3 =", PromptConfig(chat_template=False)) == "<s>2 + 3 ="
    config = PromptConfig(chat_template=False, system="Add.", suffix="\nAnswer:", shots=SHOTS[:1])
    assert prompt("2 + 3 =", config) == "<s>Add.\n\n1 + 2 =\nAnswer: 3\n\n2 + 3 =\nAnswer:"


def test_the_template_gets_its_options() -> None:
    config = PromptConfig(template_options={"think": False})
    assert prompt("2 + 3 =", config) == "<s><user>2 + 3 =</user><assistant><nothink>"


@given(question=st.text(alphabet="abc 1+=\n", max_size=30), suffix=st.text(alphabet=" .x\n", max_size=5))
def test_a_plain_prompt_is_the_tokenizers_own_encoding(question: str, suffix: str) -> None:
    encode = Encoder(TOKENIZER, PromptConfig(chat_template=False, suffix=suffix), 100)
    assert encode(Problem("p", question, "0")) == own_encoding(TOKENIZER, question + suffix)


def test_a_prompt_may_be_as_long_as_allowed_and_no_longer() -> None:
    problem = Problem("gsm8k/train/7", "2 + 3 =", "5")
    length = len(Encoder(TOKENIZER, PromptConfig(), 1000)(problem))
    assert len(Encoder(TOKENIZER, PromptConfig(), length)(problem)) == length
    with pytest.raises(
        ValueError, match=rf"gsm8k/train/7 has a prompt of {length} tokens, above the {length - 1} that"
    ):
        Encoder(TOKENIZER, PromptConfig(), length - 1)(problem)


RARE = Problem("rare", "𝔸𝔹𝔻𝔼𝔽", "0")
"""Five characters, of four tokens each."""
LONG = [Problem(f"long/{i}", "1 + 1 = 2, " + "x" * (i % 3), "0") for i in range(2000)]
"""Problems of more characters and fewer tokens, so many that they are not encoded in one go."""


@pytest.mark.parametrize("chat_template", [True, False])
def test_the_longest_prompt_is_found_by_its_tokens(chat_template: bool) -> None:
    encode = Encoder(TOKENIZER, PromptConfig(chat_template=chat_template), 10_000)
    problems = [*LONG, RARE, *LONG]
    lengths = [len(encode(problem)) for problem in problems]
    assert max(lengths) == len(encode(RARE))
    limit = len(encode(RARE)) - 1
    tight = Encoder(TOKENIZER, PromptConfig(chat_template=chat_template), limit)
    assert encode.longest(problems) == limit + 1
    assert tight.longest(LONG) == max(len(encode(problem)) for problem in LONG)
    with pytest.raises(ValueError, match=f"problem rare has a prompt of {limit + 1} tokens, above the {limit} that"):
        tight.longest(problems)


def test_what_the_template_refuses_in_one_question_alone_is_said_too() -> None:
    picky = (
        "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('I said no') }}{% endif %}{% endfor %}x"
    )
    encode = Encoder(byte_tokenizer(picky), PromptConfig(), 100)
    assert encode.longest(LONG) == 1
    with pytest.raises(ValueError, match=r"refuses the prompt: I said no; change"):
        encode.longest([*LONG, Problem("p", "no", "0")])


def test_a_tokenizer_without_a_template_is_for_plain_text() -> None:
    plain = byte_tokenizer(template=None)
    with pytest.raises(ValueError, match=r"no chat template; set prompt.chat_template = false"):
        Encoder(plain, PromptConfig(), 100)
    assert Encoder(plain, PromptConfig(chat_template=False), 100)(Problem("p", "2", "2")) == own_encoding(plain, "2")


def test_what_the_template_refuses_is_said_before_the_run() -> None:
    config = PromptConfig(system="Add.", template_options={"no_system": True})
    with pytest.raises(ValueError, match=r"refuses the prompt: System role not supported; change prompt.system or"):
        Encoder(TOKENIZER, config, 100)
    with pytest.raises(ValueError, match=r"prompt.template_options: tokenize is set by rankone itself"):
        Encoder(TOKENIZER, PromptConfig(template_options={"tokenize": False}), 100)
