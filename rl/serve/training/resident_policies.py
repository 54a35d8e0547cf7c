"""The policies that the learner holds: so many at a time, the others being put away until they are asked for."""

import asyncio
import logging

from rl.learner.policy_host import LearnerHost
from rl.serve.errors import ServerFault
from rl.serve.training.policies import ServedPolicy, Shelf
from rl.types import LearnerDied

log = logging.getLogger(__name__)

RESTARTS = (0.0, 1.0, 5.0, 15.0, 30.0)
"""Seconds before each try to start a dead learner again."""


class ResidentPolicies:
    """Brings policies to the learner and back, also after its death. For one task at a time."""

    def __init__(self, host: LearnerHost, shelf: Shelf, most: int) -> None:
        """The learner holds `most` at once."""
        self._host = host
        self._shelf = shelf
        self._most = most
        self._policies: dict[str, ServedPolicy] = {}
        self.in_pass: set[str] = set()
        """Names of those of the pass that is under way, which stay."""

    def add(self, policy: ServedPolicy) -> None:
        """Count a policy in, which may be put away from now on."""
        self._policies[policy.name] = policy

    def forget(self, policy: ServedPolicy) -> None:
        """Count a policy out."""
        self._policies.pop(policy.name, None)

    async def bring_in(self, policy: ServedPolicy) -> None:
        """See that a policy is on the learner, as it was."""
        policy.require_whole()
        if not policy.on_learner:
            await self._make_room()
            await self._host.add(policy.spec)
            if (state := await asyncio.to_thread(self._shelf.take, policy)) is not None:
                try:
                    await self._host.load_state(policy.name, state)
                except ValueError:
                    await self._host.remove(policy.name)
                    raise
            policy.on_learner = True
        policy.used = asyncio.get_running_loop().time()

    async def _make_room(self) -> None:
        """Put policies away that were not used for longest. Those stay that have gradients, or a part in this pass."""
        resident = [policy for policy in self._policies.values() if policy.on_learner]
        free = [policy for policy in resident if not policy.gradients and policy.name not in self.in_pass]
        excess = max(0, len(resident) + 1 - self._most)
        for policy in sorted(free, key=lambda policy: policy.used)[:excess]:
            await self._put_away(policy)

    async def _put_away(self, policy: ServedPolicy) -> None:
        if not policy.current:
            policy.kept, policy.current = await self._host.state(policy.name), True
        await self._host.remove(policy.name)
        policy.on_learner = False
        try:
            await asyncio.to_thread(self._shelf.put, policy)
        except OSError as error:
            log.warning("a policy that is put away stays in memory: %s", error)

    async def recover(self, died: LearnerDied) -> ServerFault:
        """Start the learner again after its death; return what the client is told."""
        for policy in self._policies.values():
            if policy.on_learner:
                policy.forget_device()
        log.warning("%s; it is started again", died)
        for pause in RESTARTS:
            await asyncio.sleep(pause)
            try:
                await self._host.restart()
            except Exception as error:  # no memory, no device, whatever: it may be there the next time
                log.warning("the learner could not be started: %s", error)
            else:
                return ServerFault(f"{died}; it was started again, and this request was not carried out")
        return ServerFault(f"{died}, and could not be started again: tell the server's operator")
