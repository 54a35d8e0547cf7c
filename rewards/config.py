"""The settings of grading."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rewards.rules import Rules

KINDS = {
    "function": (),
    "judge": (
        "model", "template", "scale", "key_env", "concurrency", "retries", "judge_deadline_s", "judge_max_tokens",
        "judge_temperature",
    ),
    "code": ("credit", "test_s", "test_memory_mb"),
    "reward_model": ("reward_model_device", "reward_model_batch"),
}  # fmt: skip
"""The kinds of reward, each by the key that names it, and the keys that belong to it alone."""


class RewardTerm(BaseModel):
    """One reward and its weight in the sum: a function, a judge, tests of code, or a reward model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    function: str | None = None
    """`math_answer`, `file.py:name` or `package.module:name`."""
    weight: float = Field(default=1.0, ge=-1e6, le=1e6)
    """The factor of its rewards in the sum."""
    judge: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """URL of an OpenAI-compatible server, up to `/v1`, whose `model` gives each completion a score."""
    model: str | None = None
    """Judge: the model's name on that server."""
    template: str | None = None
    """Judge: the message that asks, with `{question}`, `{answer}`, `{completion}` or columns in it; else our own."""
    scale: tuple[float, float] = (0.0, 1.0)
    """Judge: its lowest and highest score, which become rewards of 0 and 1."""
    key_env: str | None = Field(default=None, min_length=1)
    """Judge: the environment variable that holds the server's key; without it none is sent."""
    concurrency: int = Field(default=16, ge=1, le=4096)
    """Judge: requests under way at a time."""
    retries: int = Field(default=4, ge=0, le=100)
    """Judge: further tries after a busy, failing or unreachable server, with growing pauses."""
    judge_deadline_s: float = Field(default=60.0, gt=0, le=86_400)
    """Judge: seconds for one verdict, all tries together."""
    judge_max_tokens: int = Field(default=1024, ge=1)
    """Judge: tokens of one answer."""
    judge_temperature: float = Field(default=0.0, ge=0, le=2)
    """Judge: its sampling temperature."""

    code: str | None = Field(default=None, min_length=1)
    """The column with tests for the program in a completion's last fenced block."""
    credit: Literal["all", "share"] = "all"
    """Code: 1 for passing all tests and else 0, or the share of tests passed."""
    test_s: float = Field(default=2.0, gt=0, le=3600)
    """Code: seconds of a core for one test; the whole completion has `reward.deadline_s`."""
    test_memory_mb: int = Field(default=512, ge=64, le=2**20)
    """Code: address space of a program's process, within `reward.memory_mb`."""

    reward_model: str | None = Field(default=None, min_length=1)
    """A directory or a hub's id of a classifier of `transformers` with one output, which is the reward."""
    reward_model_device: str = "auto"
    """Reward model: `cpu`, `cuda`, `cuda:1`, ...; by default a GPU if a cluster has one to spare for it, or the process
    of a run without a cluster sees one."""
    reward_model_batch: int = Field(default=16, ge=1, le=4096)
    """Reward model: completions of a group that it reads at once."""

    @property
    def kind(self) -> str:
        """The key that says what it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def name(self) -> str:
        """The reward's name for people: its function, or the judge's model."""
        return self.function or f"{self.kind} {self.model or getattr(self, self.kind)}"

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(
                f"set one of {', '.join(KINDS)} in each of reward.terms, not {' and '.join(kinds) or 'none'}"
            )
        for kind, keys in KINDS.items():
            strays = [k for k in keys if getattr(self, k) != type(self).model_fields[k].default]
            if strays and kind != kinds[0]:
                raise ValueError(f"{strays[0]} belongs to a reward with {kind}, and this one has {kinds[0]}")
        if self.judge is not None and self.model is None:
            raise ValueError(f"set model, the name of the judge's model on {self.judge}")
        if not self.scale[0] < self.scale[1]:
            raise ValueError("scale is the lowest score and the highest, as in [0, 10]")
        return self


class RewardConfig(BaseModel):
    """The grading of completions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    function: str = "math_answer"
    """`math_answer`, `file.py:name` or `package.module:name`."""
    terms: tuple[RewardTerm, ...] = ()
    """Several rewards, added with their weights, in place of `function`."""
    decimals: Annotated[int, Field(ge=1, le=30)] | Literal["exact"] = 6
    """`math_answer`: significant digits of a decimal that stands for a number whose decimals do not end, or `exact`."""
    unevaluated: Literal["refuse", "accept"] = "refuse"
    """`math_answer`: calculations left to do, `3 * 4` for 12. Accepted, they pay for repeating the question's sum."""
    form: Literal["asked", "any"] = "asked"
    """`math_answer`: `asked` refuses answers not in the form that the question asks for, and its question respelt."""
    truncated: Literal["refuse", "grade"] = "refuse"
    """`math_answer`: completions that the token limit cut off. Graded, they pay for an answer and then babble."""
    conversational: bool | None = None
    """Give TRL functions completions as lists of messages, or as text; by default as their code expects them."""
    deadline_s: float = Field(default=5.0, gt=0, le=86_400)
    """Seconds one completion may take before its grader is killed and the outcome is `timeout`."""
    workers: int | None = Field(default=None, ge=1)
    """Grading processes; by default one per two cores, at least one, at most eight."""
    memory_mb: int = Field(default=2048, ge=256, le=2**24)
    """Address space of one grading process, above which it is stopped."""
    max_failed_fraction: float = Field(default=0.25, ge=0, le=1)
    """A step in which a larger share of grades crashed ends the run."""

    @property
    def all_terms(self) -> tuple[RewardTerm, ...]:
        """The terms, of which a single `function` is one."""
        return self.terms or (RewardTerm(function=self.function),)

    @property
    def rules(self) -> Rules:
        """The choices that `math_answer` is given."""
        return Rules(self.decimals, self.unevaluated, self.form, self.truncated)

    @property
    def is_default(self) -> bool:
        """True if answers are graded by our own parser alone; False for a reward of the user's own."""
        return self.function == "math_answer" and not self.terms
