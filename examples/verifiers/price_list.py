"""An environment of `verifiers`: what a thing costs is known to a tool alone, so that an answer takes two turns.

docs/serve.md says how it samples from a server.
"""

import sys
from collections.abc import Iterator

import verifiers.v1 as vf
from verifiers.v1.harnesses.null import NullHarness
from verifiers.v1.harnesses.utils.launch import CHAT_PROGRAM_SOURCE
from verifiers.v1.runtimes import Runtime

PRICES = {"apple": 37, "bread": 82, "milk": 64}


class PriceData(vf.TaskData):
    item: str


class PriceToolset(vf.Toolset[vf.ToolsetConfig]):
    TOOL_PREFIX = None

    @vf.tool
    def price(self, item: str) -> str:
        """The price of an item."""
        return str(PRICES[item])


class PriceTaskConfig(vf.TaskConfig):
    tools: vf.ToolsetConfig = vf.ToolsetConfig()


class PriceTask(vf.Task[PriceData, vf.State, PriceTaskConfig]):
    @classmethod
    def toolsets(cls, config: PriceTaskConfig) -> list[vf.Toolset]:
        return [PriceToolset(config.tools)]

    @vf.reward
    async def correct(self, trace: vf.Trace) -> float:
        return float(trace.last_reply.strip() == str(PRICES[self.data.item]))

    @vf.metric
    async def tool_results(self, trace: vf.Trace) -> float:
        return float(len(trace.tool_messages))


class PriceTasksetConfig(vf.TasksetConfig):
    task: PriceTaskConfig = PriceTaskConfig()


class PriceTaskset(vf.Taskset[PriceTask, PriceTasksetConfig]):
    def load(self) -> Iterator[PriceTask]:
        for item in PRICES:
            prompt = f"What does {item} cost?"
            yield PriceTask(PriceData(name=item, item=item, prompt=prompt), self.config.task)


class OfflineHarness(NullHarness):
    """The chat loop of verifiers' own `null` harness, run by this Python, where `null` lets uv install one."""

    async def setup(self, runtime: Runtime) -> None:
        await self._program(runtime)

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data, tool_interception_url=None):
        runtime.prepare_uv_script = lambda *_, **__: self._program(runtime)
        return await super().launch(ctx, trace, runtime, endpoint, secret, mcp_urls, data, tool_interception_url)

    async def _program(self, runtime: Runtime) -> list[str]:
        await runtime.write("chat.py", CHAT_PROGRAM_SOURCE.encode())
        return [sys.executable, "chat.py"]


__all__ = ["OfflineHarness", "PriceTaskset"]

if __name__ == "__main__":
    PriceToolset.run()
