"""Environments of verifiers, played by its tests: a question, a game of several turns, and one that fails as it is told.

The harness makes its requests in verifiers' own process, which spares a test the seconds of a program's start.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import verifiers.v1 as vf
from verifiers.v1.runtimes import ProgramResult


class CountData(vf.TaskData):
    number: int


class CountTask(vf.Task[CountData, vf.State, vf.TaskConfig]):
    """A question: its answer's length is the reward, so that any policy's differ."""

    @vf.reward
    async def length(self, trace: vf.Trace) -> float:
        return len(trace.last_reply) / 10


class CountTaskset(vf.Taskset[CountTask, vf.TasksetConfig]):
    def load(self) -> Iterator[CountTask]:
        for number in range(8):
            data = CountData(name=f"count-{number}", number=number, prompt=f"{number}?", system_prompt="count")
            yield CountTask(data, self.config.task)


class DirectHarness(vf.Harness[vf.HarnessConfig]):
    """One request for the messages that there are."""

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data, **_: Any) -> ProgramResult:
        system, prompt = self.resolve_prompt(data)
        messages = [{"role": "system", "content": system}] if system else []
        if isinstance(prompt, str):
            messages.append({"role": "user", "content": prompt})
        else:
            messages += [{"role": m.role, "content": m.content or ""} for m in prompt or []]
        async with httpx.AsyncClient(timeout=None) as client:
            answer = await client.post(
                f"{endpoint}/chat/completions",
                json={"model": ctx.model, "messages": messages},
                headers={"Authorization": f"Bearer {secret}"},
            )
        return ProgramResult(exit_code=0 if answer.status_code in (200, 400) else 1, stdout="", stderr=answer.text)


class CountEnvConfig(vf.EnvConfig):
    player: vf.AgentConfig = vf.AgentConfig()


class CountEnv(vf.Env[CountEnvConfig]):
    """Answers as many turns as the task's number says, up to 2; the others go wrong, each in a way of its own."""

    async def run(self, task: CountTask, agents: vf.Agents) -> None:
        number = task.data.number
        async with agents.player.interaction(task) as interaction:
            segment = await interaction.turn()
            if number > 2:
                await _go_wrong(number)
            for turn in range(number):
                if segment.terminated:
                    break
                segment = await interaction.turn(f"{turn}!")
        if number == 6:
            await agents.player.run(task)
        interaction.trace.record_reward("turns", float(number), 1.0)


async def _go_wrong(number: int) -> None:
    match number:
        case 3:
            raise KeyError("no such move")
        case 4:
            await asyncio.sleep(600)
        case 5:
            time.sleep(600)  # blocks all episodes of its process
        case _:
            pass


__all__ = ["CountEnv", "CountTaskset", "DirectHarness"]
