"""Episodes of verifiers whose turns a vLLM worker on Ray writes: tokens, masks, logprobs and rewards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import chat_model
from helpers.fakes import SameTextGrader

from lora.base.tokenizer import load_tokenizer
from lora.types import Adapter
from rewards.types import Problem
from rl.algorithm.sampling.groups import Question, sample_groups
from rl.config import RunConfig
from rl.data.verifiers import find_python
from rl.episodes.open import encoder_of, open_environments, player_of
from rl.episodes.verifiers.host import VerifiersHost
from rl.types import Episode
from rollout.ray.engine import AdapterStore, RayEngine
from rollout.ray.placement import ActorPlacement
from rollout.torch.engine import TorchEngine

GAMES = Path(__file__).with_name("verifiers_games.py")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    try:
        python = find_python(None, Path(__file__).parents[3])
    except ValueError:
        pytest.skip("verifiers is not here: `make verifiers` makes an environment that has it")
    chat_model.build(tmp_path)
    return RunConfig.model_validate({
        "model": {"name": str(tmp_path), "dtype": "float32", "max_length": 400},
        "data": {"source": "verifiers", "taskset": str(GAMES), "python": python, "num_held_out": 1},
        "episodes": {"environment": f"verifiers:{GAMES}", "max_turns": 2, "max_tokens": 300, "workers": 1},
        "sampling": {"group_size": 4, "max_tokens": 5},
    })  # fmt: skip


@pytest.mark.usefixtures("ray_cluster")
async def test_a_vllm_worker_writes_the_turns(config: RunConfig, make_adapter: Callable[..., Adapter]) -> None:
    tasks: list[dict[str, Any]] = [
        {"idx": number, "name": f"count-{number}", "number": number, "prompt": f"{number}?", "system_prompt": "count"}
        for number in range(3)
    ]  # as its taskset has them
    problems = [Problem(task["name"], task["prompt"], "", {"task": task}) for task in tasks]
    adapter = make_adapter(config.model, config.lora)
    encode = encoder_of(config, load_tokenizer(config.model))
    questions = [Question(i, problem, encode(problem), 100 + 4 * i) for i, problem in enumerate(problems)]
    starting = RayEngine.start(
        config.model, config.lora, config.rollout, AdapterStore(), seed=0, place=ActorPlacement(1)
    )
    engine, environments = await starting, open_environments(config)
    assert isinstance(environments.pool, VerifiersHost)
    try:
        player = player_of(config, engine, environments)
        groups, _ = await sample_groups(questions, adapter, config.sampling, engine, SameTextGrader(), player)
        pids = environments.pool.pids
    finally:
        await environments.close()
        await engine.close()
    assert pids
    assert not any(map(psutil.pid_exists, pids))
    reference, tokenizer = TorchEngine(config.model, config.lora), load_tokenizer(config.model)
    for number, group in enumerate(groups):
        assert len({episode.token_ids for episode in group.completions}) == 4
        for episode, reward in zip(group.completions, group.rewards, strict=True):
            assert isinstance(episode, Episode)
            said = [turn["content"] for turn in episode.turns]
            assert (episode.ending, said[1::2]) == ("turns" if number == 2 else "done", ["0!"][:number])
            mask = episode.loss_mask or (True,) * len(episode.token_ids)
            assert sum(mask) == episode.num_sampled
            text: Any = tokenizer.decode(episode.token_ids)
            if "</think>" not in text:
                assert reward.value == pytest.approx(number + len(said[-1].strip()) / 10)
            (scores,) = await reference.score([[*group.prompt, *episode.token_ids]], adapter)
            own = [i for i, is_own in enumerate(mask) if is_own]
            expected = [scores[len(group.prompt) - 1 + i] for i in own]
            assert [episode.logprobs[i] for i in own] == pytest.approx(expected, abs=2e-3)
