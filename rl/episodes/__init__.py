"""Episodes of more than one turn: the policy writes, an environment answers, and what it says is read and not learned.

`from rl.episodes import Environment, Observation` is what a file with an environment needs. An environment's process
imports this, so nothing heavy is loaded here.
"""

from rl.episodes.environment import Environment, Message, Observation

__all__ = ["Environment", "Message", "Observation"]
