"""An environment of the real `verifiers`, of two turns with a tool, through its own command and its client for training.

It lives in a Python of its own, as at its users': it pins older openai and mcp than constraints.txt holds.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker
from helpers import chat_model
from helpers.serving import LOCAL, Served, serving
from helpers.tinker_client import TIMEOUT, datum, logprobs, step

ROOT = Path(__file__).parents[3]
OWN = ROOT / ".venv-verifiers" / "bin" / "python"
PRICES = {"apple": "37", "bread": "82"}
"""Prices of the first two things of its list alone: each rollout starts three processes that load verifiers."""
MAIN = "from verifiers.v1.cli.eval.main import main; main()"


def _python() -> str | None:
    """Return the Python that has verifiers, if there is one."""
    if chosen := os.environ.get("VERIFIERS_PYTHON"):
        return chosen
    if OWN.exists():
        return str(OWN)
    return sys.executable if importlib.util.find_spec("verifiers") else None


PYTHON = _python()
pytestmark = pytest.mark.skipif(
    PYTHON is None, reason="verifiers is not here: `make verifiers` makes an environment that has it"
)


@dataclass(frozen=True)
class Rollout:
    """The record that verifiers made of a rollout."""

    trace: dict[str, Any]

    @property
    def item(self) -> str:
        return self.trace["task"]["data"]["item"]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [node["message"] for node in self.trace["nodes"]]

    def joined(self, name: str) -> list[Any]:
        """Return the tokens, or what there is for each token, of all messages."""
        return [value for node in self.trace["nodes"] for value in node[name]]

    @property
    def logprobs(self) -> list[float]:
        """Logprobs of sampled tokens, and 0 of all others."""
        sampled = iter(self.joined("logprobs"))
        return [next(sampled) if is_sampled else 0.0 for is_sampled in self.joined("mask")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("chat") / "model"
    directory.mkdir()
    chat_model.build(directory)
    return directory


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = (setting for setting in LOCAL if "max_length" not in setting)
    with serving(tmp_path_factory.mktemp("verifiers"), *settings, model=str(model)) as served:
        yield served


def rollouts(served: Served, model: Path, out: Path, name: str, *more: str, tasks: int) -> dict[str, Rollout]:
    """Return a rollout of each of the first tasks, from the policy of that name. Fails if one of them failed."""
    command = [
        str(PYTHON), "-c", MAIN, "@", str(ROOT / "examples/verifiers/rollouts.toml"),
        "--model", name, "--client.base-url", f"{served.url}/v1", "--client.renderer-model-name", str(model),
        "--num-rollouts", "1", "--select.limit", str(tasks), "--no-rich", "--output-dir", str(out), "--run.dir", "run", *more,
    ]  # fmt: skip
    variables = served.environment() | {
        "RANKONE_API_KEY": served.key, "PYTHONPATH": str(ROOT / "examples/verifiers"), "XDG_CACHE_HOME": str(out),
    }  # fmt: skip
    ended = subprocess.run(command, env=variables, cwd=out, capture_output=True, text=True, timeout=TIMEOUT * 3)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    episodes = [json.loads(line) for line in (out / "run" / "traces.jsonl").read_text().splitlines()]
    assert all(episode["ok"] for episode in episodes), ended.stdout[-4000:]
    by_item = {rollout.item: rollout for episode in episodes for rollout in map(Rollout, episode["traces"])}
    assert sorted(by_item) == sorted([*PRICES][:tasks]), "in the order in which they ended"
    return by_item


@pytest.fixture(scope="module")
def untrained(server: Served, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rollout]:
    return rollouts(server, model, tmp_path_factory.mktemp("base"), "base", "--sampling.max-tokens", "24", tasks=1)


@pytest.fixture(scope="module")
def client(server: Served, model: Path) -> Iterator[tinker.TrainingClient]:
    service = server.client()
    yield service.create_lora_training_client(str(model), rank=8, seed=1).result(TIMEOUT)
    service.close("success").result(TIMEOUT)


@pytest.fixture(scope="module")
def taught(client: tinker.TrainingClient, untrained: dict[str, Rollout]) -> dict[str, list[int]]:
    """The tokens of each item's conversation, which the policy has been taught."""
    parts = {item: _conversation(client, item, untrained["apple"]) for item in PRICES}
    data = [datum([*chain(*four)], weights=_weights(*four)) for four in parts.values()]
    for number in range(60):
        step(client, data, lr=8e-3 if number < 25 else 2e-3)
    return {item: [*chain(*four)] for item, four in parts.items()}


def _conversation(client: tinker.TrainingClient, item: str, rollout: Rollout) -> list[list[int]]:
    """Return the tokens of the question as verifiers sent it of apples, of the call, of its result, and of the answer."""
    asked = [
        token for token, sampled in zip(rollout.joined("token_ids"), rollout.joined("mask"), strict=True) if not sampled
    ]
    tokenizer = client.get_tokenizer()
    texts = (
        str(tokenizer.decode(asked)).replace("apple", item),
        f'<tool_call>\n{{"name": "price", "arguments": {{"item": "{item}"}}}}\n</tool_call><|im_end|>',
        f"\n<|im_start|>user\n<tool_response>\n{PRICES[item]}\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
        f"{PRICES[item]}<|im_end|>",
    )
    return [list(tokenizer.encode(text, add_special_tokens=False)) for text in texts]


def _weights(ask: list[int], call: list[int], result: list[int], answer: list[int]) -> list[float]:
    return [0.0] * (len(ask) - 1) + [1.0] * len(call) + [0.0] * len(result) + [1.0] * len(answer)


@pytest.fixture(scope="module")
def trained(
    server: Served, model: Path, client: tinker.TrainingClient, taught: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Rollout]:  # fmt: skip
    """Rollouts of the taught policy, which may write until it ends by itself."""
    name = f"{client.get_info().model_id}@latest"
    return rollouts(server, model, tmp_path_factory.mktemp("trained"), name, "--sampling.temperature", "0", tasks=2)


def test_the_base_samples_what_verifiers_asks_for(untrained: dict[str, Rollout]) -> None:
    for rollout in untrained.values():
        assert [message["role"] for message in rollout.messages] == ["user", "assistant"]
        (call,) = rollout.trace["calls"]
        assert 0 < call["usage"]["completion_tokens"] <= 24
        assert sum(rollout.joined("mask")) == len(rollout.joined("logprobs")) == call["usage"]["completion_tokens"]
        assert max(rollout.joined("logprobs")) < 0
        assert rollout.trace["rewards"]["correct"]["score"] == 0


def test_a_trained_policy_calls_the_tool_and_answers_with_what_it_said(
    trained: dict[str, Rollout], taught: dict[str, list[int]]
) -> None:
    for item, rollout in trained.items():
        question, call, result, answer = rollout.messages
        assert question["content"] == f"What does {item} cost?"
        assert (call["tool_calls"][0]["name"], json.loads(call["tool_calls"][0]["arguments"])) == (
            "price",
            {"item": item},
        )
        assert (result["role"], result["content"], answer["content"]) == ("tool", PRICES[item], PRICES[item])
        assert [turn["finish_reason"] for turn in rollout.trace["calls"]] == ["tool_calls", "stop"]
        assert rollout.trace["rewards"]["correct"]["score"] == 1
        assert rollout.joined("token_ids") == taught[item], (
            "both turns have the very tokens, the ends of turns among them"
        )


def test_what_verifiers_recorded_trains_the_policy(client: tinker.TrainingClient, trained: dict[str, Rollout]) -> None:
    recorded = [*trained.values()]
    data = [_experience(rollout, advantage=-1.0) for rollout in recorded]
    before = logprobs(client, [datum(rollout.joined("token_ids")) for rollout in recorded])
    for rollout, learned in zip(recorded, before, strict=True):
        sampled = np.array(rollout.joined("mask")[1:])
        assert np.abs(learned - rollout.logprobs[1:])[sampled].max() < 1e-3
    output = step(client, data, "importance_sampling", lr=1e-3, beta1=0.0, beta2=0.0)
    assert output.metrics["loss:sum"] == pytest.approx(
        sum(sum(rollout.joined("mask")) for rollout in recorded), rel=1e-3
    )
    after = logprobs(client, [datum(rollout.joined("token_ids")) for rollout in recorded])
    assert _sum_sampled(after, recorded) < _sum_sampled(before, recorded)


def _experience(rollout: Rollout, *, advantage: float) -> tinker.Datum:
    sampled = np.array(rollout.joined("mask")[1:], np.float32)
    return datum(rollout.joined("token_ids"), logprobs=rollout.logprobs[1:], advantages=advantage * sampled)


def _sum_sampled(learned: list[np.ndarray], recorded: list[Rollout]) -> float:
    pairs = zip(learned, recorded, strict=True)
    return sum(float(values[np.array(rollout.joined("mask")[1:])].sum()) for values, rollout in pairs)
