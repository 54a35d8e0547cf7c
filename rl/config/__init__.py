"""Settings of a run, a table of its file each: `RunConfig` composes the configurations of the four packages."""

from rl.config.checks import GuardConfig, LivenessConfig
from rl.config.curriculum import CurriculumConfig
from rl.config.data import (
    MOST_PROBLEMS,
    Addition,
    DataConfig,
    Gsm8k,
    Hub,
    JsonLines,
    Math,
    PromptConfig,
    ReasoningGym,
    Shot,
    Verifiers,
)
from rl.config.episodes import EpisodesConfig
from rl.config.evaluate import EvaluateConfig, EvaluationSet
from rl.config.learner import SMALLEST_EPS, AdvantageKind, LearnerConfig
from rl.config.mixture import Mixed, Mixture, ProblemsConfig
from rl.config.placement import PlacementConfig
from rl.config.preset import Preset
from rl.config.replaced import replaced
from rl.config.run import (
    MAX_COMPLETIONS,
    MAX_OFF_POLICY_STEPS,
    RunConfig,
    SftConfig,
)
from rl.config.strict import MOST_PROCESSES, WEEK_S, Strict
from rl.config.teacher import TeacherConfig

__all__ = [
    "MAX_COMPLETIONS",
    "MAX_OFF_POLICY_STEPS",
    "MOST_PROBLEMS",
    "MOST_PROCESSES",
    "SMALLEST_EPS",
    "WEEK_S",
    "Addition",
    "AdvantageKind",
    "CurriculumConfig",
    "DataConfig",
    "EpisodesConfig",
    "EvaluateConfig",
    "EvaluationSet",
    "Gsm8k",
    "GuardConfig",
    "Hub",
    "JsonLines",
    "LearnerConfig",
    "LivenessConfig",
    "Math",
    "Mixed",
    "Mixture",
    "PlacementConfig",
    "Preset",
    "ProblemsConfig",
    "PromptConfig",
    "ReasoningGym",
    "RunConfig",
    "SftConfig",
    "Shot",
    "Strict",
    "TeacherConfig",
    "Verifiers",
    "replaced",
]
