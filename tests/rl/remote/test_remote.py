"""A run whose learner and engines are a server's makes the run that it would make here."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.serving import Served, serving

from lora.types import Adapter
from rl import train
from rl.config import RunConfig, replaced
from rl.remote.engine import RemoteEngine
from rl.remote.learner import check_config, parts_of, summed
from rl.run.directory import RunDirectory
from rl.run.jsonl import read_samples
from rl.settings.toml import load_config
from rollout.config import SamplingConfig
from rollout.types import Completion

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny.toml"
LOSSES = {"importance": "cispo", "cispo": "cispo", "ppo": "ppo", "gspo": "gspo", "reinforce": "cross_entropy"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = ("runtime=local", "model.dtype=float32", "model.max_length=64")
    with serving(tmp_path_factory.mktemp("serve"), *settings) as server:
        yield server


DIGITS = """
def digits(completions, **_):
    return [sum(letter.isdigit() for letter in text) / 3 for text in completions]
"""
"""A reward of which a random model gets a share, so that there is something to learn from the first step on."""


@pytest.fixture
def small(served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunConfig:
    (tmp_path / "digits.py").write_text(DIGITS)
    monkeypatch.setenv("RANKONE_API_KEY", served.key)
    config = load_config(EXAMPLE)
    data = replaced(config.data, train=str(EXAMPLE.parent / "tiny.jsonl"))
    reward = {"function": f"{tmp_path / 'digits.py'}:digits"}
    sizes = {"num_steps": 4, "problems_per_step": 8, "sampling": {"group_size": 8}, "evaluate": {"every": 2}}
    return replaced(config, data=data, reward=reward, **sizes)


def metrics(path: Path) -> list[dict[str, float]]:
    return RunDirectory(path).metrics()  # type: ignore[return-value]


@pytest.mark.parametrize("objective", LOSSES)
def test_it_makes_the_run_that_it_would_make_here(
    served: Served, small: RunConfig, tmp_path: Path, objective: str
) -> None:
    config = replaced(small, learner={"objective": objective})
    assert_same_run(served, config, tmp_path)


@pytest.mark.parametrize(
    ("objective", "aggregation"),
    [("importance", "sequence"), ("importance", "constant"), ("gspo", "token")],
)
def test_a_mean_over_other_than_the_objectives_own_is_the_same_there(
    served: Served, small: RunConfig, tmp_path: Path, objective: str, aggregation: str
) -> None:
    """Completions end at any of many characters, so that a mean over them is not one over tokens.

    Those that end one are not in its text, where the reward would count them: five are digits."""
    sampling = {"max_tokens": 6, "stop_token_ids": (*range(3, 8), *range(23, 40))}
    default = replaced(small, learner={"objective": objective}, sampling=sampling, num_steps=2)
    config = replaced(default, learner={"aggregation": aggregation})
    assert_same_run(served, config, tmp_path)
    train(replaced(default, num_steps=1), out=tmp_path / "default", quiet=True)
    norms = [metrics(tmp_path / run)[0]["update/grad_norm"] for run in ("default", "here")]
    assert abs(norms[0] / norms[1] - 1) > 0.02


def assert_same_run(served: Served, config: RunConfig, tmp_path: Path) -> None:
    train(config, out=tmp_path / "here", quiet=True)
    train(replaced(config, server=served.url), out=tmp_path / "there", quiet=True)
    here, there = metrics(tmp_path / "here"), metrics(tmp_path / "there")
    assert len(here) == len(there) == config.num_steps + 1
    for own, remote in zip(here, there, strict=True):
        for name in ("reward/mean", "eval/accuracy", "update/tokens", "completion/length_mean"):
            assert remote.get(name) == pytest.approx(own.get(name)), name
        if own is not here[-1]:
            assert own["update/grad_norm"] > 0
            assert remote["update/grad_norm"] == pytest.approx(own["update/grad_norm"], rel=1e-3)
            assert remote["update/kl_sampler_learner"] < 1e-4
    assert (tmp_path / "there" / "adapters" / "last" / "adapter_model.safetensors").exists()


def test_it_goes_on_from_its_newest_checkpoint(served: Served, small: RunConfig, tmp_path: Path) -> None:
    config = replaced(small, server=served.url)
    train(config, out=tmp_path / "whole", quiet=True)
    train(config, out=tmp_path / "parts", quiet=True, on_step=lambda step, _: step == 1)
    train(config, out=tmp_path / "parts", quiet=True, resume=True)
    whole, parts = metrics(tmp_path / "whole"), metrics(tmp_path / "parts")
    assert [row["reward/mean"] for row in whole[:-1]] == [row["reward/mean"] for row in parts[:-1]]
    norms = [[row.get("update/grad_norm", 0.0) for row in rows] for rows in (whole, parts)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    assert any(norms[0][1:])  # something was learned after the stop


def test_it_learns_from_the_groups_that_a_server_finishes_first(
    served: Served, small: RunConfig, tmp_path: Path
) -> None:
    config = replaced(small, server=served.url, sampling={"group_size": 4}, steps_in_flight=1.5)
    train(config, out=tmp_path / "run", quiet=True)
    samples = read_samples(tmp_path / "run" / "samples.jsonl")
    learned = Counter(row["problem"] for row in samples if row["split"] == "train")
    assert (len(learned), set(learned.values())) == (32, {4}), "every problem of four steps once"
    lags = [row["policy/version_lag"] for row in metrics(tmp_path / "run") if "policy/version_lag" in row]
    assert len(lags) == 4
    assert 0 < max(lags) <= 2


def test_every_objective_has_a_loss_of_the_protocols() -> None:
    for objective, loss in LOSSES.items():
        assert summed(replaced(RunConfig(), learner={"objective": objective}).learner)[0] == loss


def test_a_steps_long_completions_go_in_requests_that_a_server_reads() -> None:
    lengths = [700_000, 300_000, 100_000, *[1] * 300, 2**21, 5]
    data = [{"token_ids": torch.zeros(length, dtype=torch.long)} for length in lengths]
    parts = [[len(datum["token_ids"]) for datum in part] for part in parts_of(data)]
    assert [length for part in parts for length in part] == lengths
    assert [len(part) for part in parts] == [2, 256, 45, 1, 1]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sampling": {"temperature": 0.7}}, "temperature"),
        ({"sampling": {"ignore_eos": True, "stop": ("x",)}}, "sampling.ignore_eos = false"),
        ({"lora": {"alpha": 16.0}}, "alpha"),
        ({"lora": {"targets": ("q_proj",)}}, "targets"),
        ({"learner": {"objective": "icepop"}}, 'no loss for learner.objective = "icepop": set it to one of importance'),
    ],
)
def test_what_a_server_cannot_train_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_config(replaced(RunConfig(), **changes))


def test_a_server_that_is_not_there_and_a_key_that_is_not_are_one_line(
    small: RunConfig, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKONE_API_KEY", "tml-no")
    with pytest.raises(ValueError, match="key is not known"):
        train(replaced(small, server=served.url), out=tmp_path / "a", quiet=True)
    monkeypatch.delenv("RANKONE_API_KEY")
    with pytest.raises(ValueError, match="RANKONE_API_KEY"):
        train(replaced(small, server=served.url), out=tmp_path / "b", quiet=True)


async def test_a_servers_answer_to_a_prompt_waits_for_no_other_prompt() -> None:
    gate = asyncio.Event()

    class Waiting(RemoteEngine):
        async def sample(
            self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int],
            top_logprobs: int = 0,
        ) -> list[list[Completion]]:  # fmt: skip
            if prompts[0] == [5]:
                await gate.wait()
            return [[Completion((*prompts[0], seeds[0], i), (), "", "stop", 0) for i in range(sampling.group_size)]]

    engine: RemoteEngine = Waiting(Any, Any)
    sampling = SamplingConfig(group_size=2, max_tokens=4)
    stream = engine.stream_completions([[5], [6]], Adapter("run", 0, b""), sampling, seeds=[1, 2])
    async with asyncio.timeout(60):
        completions = [await anext(stream), await anext(stream)]
        gate.set()
        completions += [each async for each in stream]
    assert [(place, each.token_ids) for place, each in completions] == [
        ((1, 0), (6, 2, 0)), ((1, 1), (6, 2, 1)), ((0, 0), (5, 1, 0)), ((0, 1), (5, 1, 1))
    ]  # fmt: skip
