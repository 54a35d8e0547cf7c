"""The endpoints of OpenAI's API through its own client."""

import json
import time
from typing import Any

import openai
import pytest
import requests
import tinker
from helpers.serving import Served
from helpers.tinker_client import MODEL, TIMEOUT, lessons, step, trainer

from rewards.config import RewardConfig, RewardTerm
from rewards.grading.pool import GraderPool
from rewards.judge.template import quoted
from rewards.judge.verdict import read_verdict
from rewards.types import Outcome, Problem


@pytest.fixture(scope="module")
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.key, max_retries=0)


def test_the_models_are_listed(client: openai.OpenAI, service: tinker.ServiceClient) -> None:
    run = trainer(service, rank=1).get_info().model_id
    models = client.models.list().data
    assert {"base", MODEL, f"{run}@latest"} <= {model.id for model in models}
    assert {model.max_model_len for model in models} == {128}  # type: ignore[attr-defined]


def test_a_model_is_told_by_any_of_its_names(client: openai.OpenAI, service: tinker.ServiceClient) -> None:
    run = trainer(service, rank=1).get_info().model_id
    for name in ("base", MODEL, f"{run}@latest"):
        assert client.models.retrieve(name).id == name
    assert client.get("/models/", cast_to=object) == client.get("/models", cast_to=object)
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.models.retrieve("gpt-4")


def test_a_chat_is_answered_with_logprobs_and_tokens(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "base",
        "messages": [{"role": "user", "content": "2+2="}],
        "max_tokens": 5,
        "n": 3,
    }
    answer = client.chat.completions.create(
        **asked, seed=3, logprobs=True, top_logprobs=2, extra_body={"return_token_ids": True}
    )
    assert len(answer.choices) == 3
    first = answer.choices[0]
    assert first.logprobs is not None
    assert first.logprobs.content is not None
    assert len(first.logprobs.content) == len(first.token_ids)  # type: ignore[attr-defined]
    assert all(len(part.top_logprobs) == 2 for part in first.logprobs.content)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == sum(len(choice.token_ids) for choice in answer.choices)  # type: ignore[attr-defined]
    assert answer.prompt_token_ids  # type: ignore[attr-defined]
    again = client.chat.completions.create(**asked, seed=3)
    assert [choice.message.content for choice in again.choices] == [choice.message.content for choice in answer.choices]


def test_a_streamed_chat_says_what_the_whole_one_says(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "2+2="}],
        "max_tokens": 6,
        "seed": 5,
    }
    whole = client.chat.completions.create(**asked).choices[0]
    parts = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == whole.message.content
    assert [part.choices[0].finish_reason for part in parts if part.choices][-1] == whole.finish_reason
    assert parts[-1].usage is not None
    assert len(parts) - 1 == parts[-1].usage.completion_tokens, "a token at a time, also without vLLM"


def test_texts_are_completed_and_stop(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="base", prompt=["1+1=", "2+2="], max_tokens=4, temperature=0.0, logprobs=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    text = answer.choices[0].text
    stopped = client.completions.create(model="base", prompt="1+1=", max_tokens=4, temperature=0.0, stop=text[1])
    assert stopped.choices[0].text == text[:1]
    assert stopped.choices[0].finish_reason == "stop"


def test_a_prompt_is_echoed_with_its_logprobs(client: openai.OpenAI) -> None:
    """As programs that score texts ask for it: without a completion, too."""
    asked: dict[str, Any] = {"model": "base", "prompt": "1+1=", "logprobs": 2, "temperature": 0.0}
    for count in (0, 2):
        choice = client.completions.create(**asked, max_tokens=count, echo=True).choices[0]
        assert choice.text.startswith("1+1=")
        logprobs = choice.logprobs
        assert logprobs is not None
        assert "".join(logprobs.tokens or ()) == choice.text
        assert logprobs.text_offset == list(range(4 + count))
        assert logprobs.token_logprobs is not None
        assert logprobs.token_logprobs[0] is None
        for token, logprob, top in zip(*(rows[1:] for rows in (
            logprobs.tokens or (), logprobs.token_logprobs, logprobs.top_logprobs or (),
        )), strict=True):  # fmt: skip
            assert top[token] == pytest.approx(logprob, abs=1e-5)
    behind = client.completions.create(model="base", prompt="1+1", max_tokens=1, temperature=0.0, logprobs=49)
    tops = behind.choices[0].logprobs
    assert tops is not None
    assert tops.top_logprobs is not None
    assert tops.top_logprobs[0]["="] == pytest.approx(logprobs.token_logprobs[3], abs=1e-4)


def test_a_run_is_sampled_as_it_is_now_and_as_it_was(client: openai.OpenAI, service: tinker.ServiceClient) -> None:
    trained = trainer(service, rank=4, seed=1)
    run = trained.get_info().model_id
    trained.save_weights_and_get_sampling_client().result(TIMEOUT)
    path = trained.save_weights_for_sampler("now").result(TIMEOUT).path

    def text(model: str) -> tuple[str, int]:
        answer = client.completions.create(model=model, prompt="2+3=", max_tokens=4, temperature=0.0)
        return answer.choices[0].text, answer.policy_version  # type: ignore[attr-defined]

    before = text(f"{run}@latest")
    for _ in range(30):
        step(trained, lessons(trained), lr=5e-3)
    after = text(f"{run}@latest")
    assert after[0].startswith("5")
    assert (before[1], after[1]) == (0, 30)
    assert text(f"{run}@0")[0] == before[0] == text(path)[0]
    with pytest.raises(openai.NotFoundError, match="not saved for sampling"):
        text(f"{run}@7")


@pytest.mark.parametrize(
    "more",
    [
        {"frequency_penalty": 1.0},
        {"response_format": {"type": "json_object"}},
        {"max_tokens": 5000},
        {"model": "gpt-4"},
    ],
)
def test_what_is_not_served_is_refused_by_its_name(client: openai.OpenAI, more: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, **more}
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as refused:
        client.chat.completions.create(**asked)
    assert any(word in str(refused.value) for word in ("not served", "context", "no model"))


@pytest.mark.parametrize(
    "wrong",
    [{"n": "x"}, {"n": 0}, {"top_logprobs": 3}, {"stream_options": {"include_usage": True}}, {"messages": "hi"}],
)
def test_what_is_no_request_is_a_bad_request_and_the_connection_stays(
    client: openai.OpenAI, wrong: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    for _ in range(5):
        with pytest.raises(openai.BadRequestError, match=next(iter(wrong))):
            client.chat.completions.create(**{**asked, **wrong})
        client.chat.completions.create(**asked)


def test_errors_have_openais_shape_wherever_they_come_from(client: openai.OpenAI) -> None:
    for call in (
        lambda: client.embeddings.create(model="base", input="x"),
        lambda: client.get("/nope", cast_to=object),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            call()
        assert "this server has no" in str(refused.value.body)


def test_a_key_that_is_not_known_is_refused(served: Served) -> None:
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="tml-no", max_retries=0).models.list()


def test_tokens_in_and_tokens_out(served: Served) -> None:
    body = {
        "token_ids": [3, 4, 5],
        "sampling_params": {"max_tokens": 6, "seed": 1, "logprobs": 1, "n": 2},
        "model": "base",
    }
    answer = requests.post(
        f"{served.url}/inference/v1/generate", json=body, headers={"Authorization": f"Bearer {served.key}"}, timeout=60
    )
    answer.raise_for_status()
    content = answer.json()
    assert len(content["choices"]) == 2
    for choice in content["choices"]:
        assert [part["token_id"] for part in choice["logprobs"]["content"]] == choice["token_ids"]
        assert all(part["logprob"] <= 0 for part in choice["logprobs"]["content"])
    assert content["usage"]["prompt_tokens"] == 3
    assert json.dumps(content)


def test_what_nobody_waits_for_any_more_is_not_sampled_on(served: Served, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "base", "prompt": "1+1=", "max_tokens": 100, "n": 64}
    more: dict[str, Any] = {"extra_body": {"ignore_eos": True}}

    def sampled() -> float:
        lines = requests.get(f"{served.url}/metrics", timeout=TIMEOUT).text.splitlines()
        counts = [
            line.split()[-1] for line in lines if line.startswith("rankone_serve_tokens_total") and "sampled" in line
        ]
        return sum(map(float, counts))

    begin, before = time.monotonic(), sampled()
    client.completions.create(**asked, **more)
    took, each = time.monotonic() - begin, sampled() - before
    assert each > 6400
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=took / 5).completions.create(**asked, **more)
    time.sleep(1.5 * took)
    more_tokens = sampled() - before - each
    assert 0 < more_tokens < each / 2, "its prompt is counted, and it was not sampled to its end"


async def test_a_served_model_judges(served: Served, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real language model's verdict, which of this tiny one is nonsense, but the one that it gives."""
    monkeypatch.setenv("JUDGE_KEY", served.key)
    term = RewardTerm(
        judge=f"{served.url}/v1", model="base", key_env="JUDGE_KEY", template="{completion}", judge_max_tokens=4
    )
    problem, text = Problem("p", "2+2=", "4"), "2+2=4"
    grader, barred = (
        GraderPool(RewardConfig(terms=(term,))),
        GraderPool(RewardConfig(terms=(term.model_copy(update={"key_env": None}),))),
    )
    try:
        (reward,) = await grader.grade_part(problem, [text], ["stop"])
        (refused,) = await barred.grade_part(problem, [text], ["stop"])
    finally:
        await grader.close()
        await barred.close()
    said = client.chat.completions.create(
        model="base", messages=[{"role": "user", "content": quoted("completion", text)}], max_tokens=4, temperature=0.0
    ).choices[0]
    verdict = None if said.finish_reason == "length" else read_verdict(said.message.content or "", (0, 1))
    assert reward.outcome is (Outcome.UNPARSABLE if verdict is None else reward.outcome)
    assert reward.value == (verdict or 0.0)
    assert refused.outcome is Outcome.CRASHED
