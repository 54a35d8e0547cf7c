"""Sources of problems (sums, a file, a hub, a generator): one or several become a `Split`, from which steps draw."""

from rl.data.draw import check_step_size, draw, draw_numbers
from rl.data.files import absolute_paths
from rl.data.load import load_problems
from rl.data.pass_rates import PassRatePools
from rl.data.sample import sample_held_out
from rl.data.split import Split, check_disjoint
from rl.data.stream import ProblemStream

__all__ = [
    "PassRatePools",
    "ProblemStream",
    "Split",
    "absolute_paths",
    "check_disjoint",
    "check_step_size",
    "draw",
    "draw_numbers",
    "load_problems",
    "sample_held_out",
]
