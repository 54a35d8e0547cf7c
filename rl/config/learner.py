"""Settings of the update."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from rl.config.strict import MOST_PROCESSES, WEEK_S, Strict

Objective = Literal[
    "importance", "mis", "icepop", "sequence_importance", "sequence_mis", "reinforce", "ppo", "cispo", "gspo",
    "cross_entropy",
]  # fmt: skip
"""Names of the losses in `rl.algorithm.objective.policy_gradient`."""
AdvantageKind = Literal["mean", "mean_std", "leave_one_out", "none", "maxrl", "pass_at_k"]
"""Comparisons of a completion with its group, in `rl.algorithm.advantage.estimators`."""
SMALLEST_EPS = 1e-18
"""Smallest eps of Adam: float32 has 0 for squares of smaller gradients, so a smaller one would bound no quotient."""


class LearnerConfig(Strict):
    """The update that graded groups become."""

    weights: Literal["lora", "full"] = "lora"
    """Trained weights: the adapter's, or every weight of the model in float32, for comparison."""
    lr: float = Field(default=5e-5, gt=0, le=100)
    """Adam's learning rate. LoRA wants about ten times full fine-tuning's."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """`linear` falls to 0 at `num_steps`: the last policy swings less, but a longer run has another curve. `cosine`
    falls along half a wave (Loshchilov and Hutter 2017, eq. 5)."""
    lr_warmup_steps: int = Field(default=0, ge=0)
    """Steps in which the rate rises to `lr` in equal parts; the step after them is the first to have it whole."""
    lr_floor: float = Field(default=0.0, ge=0, le=1)
    """Share of `lr` that `linear` and `cosine` fall to, in place of 0."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's decay of the mean of gradients."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Adam's decay of the mean of their squares."""
    eps: float = 1e-8
    """Adam's, added to the root of the second moment; at least 1e-18."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients whose norm is larger are scaled down to it; `"none"` leaves them."""
    objective: Objective = "importance"
    """`importance` is truncated importance sampling per token; `mis` and `icepop` leave out tokens whose ratios are too
    far off, and `sequence_importance` and `sequence_mis` weigh a completion by the product of its ratios
    (docs/objectives.md). `cross_entropy` is `rankone sft`'s, which sets it."""
    objective_function: str | None = None
    """A function of your own in the place of `objective`, `file.py:name` (docs/objectives.md)."""
    max_ratio: float = Field(default=2.0, gt=0)
    """Bound C of `importance`, `mis`, `sequence_importance` and `sequence_mis`, and upper clip of `cispo`."""
    icepop_low: float = Field(default=0.5, ge=0, le=1)
    """`icepop` learns nothing from tokens whose ratio is below this."""
    icepop_high: float = Field(default=5.0, ge=1)
    """Nor from those whose ratio is above this."""
    clip_low: float = Field(default=0.2, gt=0, le=1)
    """Lower clip of `ppo`, and of `cispo`: ratios below 1 minus this; with 1 there is none."""
    clip_high: float = Field(default=0.28, gt=0)
    """Upper clip of `ppo`: ratios above 1 plus this. A wider upper side keeps exploration alive (DAPO, 2025)."""
    gspo_clip_low: float = Field(default=3e-4, gt=0, lt=1)
    """Lower clip of `gspo`: ratios below 1 minus this."""
    gspo_clip_high: float = Field(default=4e-4, gt=0)
    """Upper clip of `gspo`. A completion's ratio is the geometric mean of its tokens', so it stays near 1 (Zheng et al.
    2025)."""
    advantage: AdvantageKind = "mean"
    """A reward minus its group's mean; `mean_std` also divides by the standard deviation (GRPO), `leave_one_out`
    takes the mean of the others (RLOO), `maxrl` divides by the mean reward, `pass_at_k` is for the best of
    `advantage_k`, and `none` is the reward itself."""
    advantage_k: int = Field(default=4, ge=1)
    """Answers of which `pass_at_k` wants the best to be good."""
    advantage_scale: Literal["none", "batch"] = "none"
    """`batch` takes the mean over all of a step's tokens from the advantages and divides them by the standard deviation
    (REINFORCE++)."""
    kl_coef: float = Field(default=0.0, ge=0)
    """Weight of a penalty for leaving the base model, KL(policy, base) in nats a token; 0 is none."""
    kl_reference: str | None = None
    """An adapter in the base model's place there: a run's directory, whose best adapter it is, or a PEFT adapter's."""
    kl_in: Literal["loss", "reward"] = "loss"
    """`loss` adds it to every token's loss (GRPO). `reward` takes its sum over a completion from the reward, before
    advantages are made (RLOO); with `advantage = "none"`, from each token's, what is still to come (REINFORCE++)."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Estimator of it (Schulman 2020): `k3` is GRPO's. In the loss, `k1` has no gradient on average and is refused."""
    entropy_coef: float = Field(default=0.0, ge=0)
    """Weight of a bonus for the entropy of every token's distribution, in nats."""
    aggregation: Literal["auto", "token", "sequence", "constant"] = "auto"
    """The mean that a step's loss is: over tokens, so that long completions weigh more (DAPO, Yu et al. 2025); over
    completions, of each one's mean over tokens (GRPO); or `constant`, its sum divided by completions times
    `sampling.max_tokens`, whatever their lengths are (Dr. GRPO, Liu et al. 2025). `auto` is `sequence` for `gspo`, and
    `token` for the others."""
    truncated: Literal["learn", "mask"] = "learn"
    """`mask` learns nothing from completions that `sampling.max_tokens` cut off and does not count them; their rewards
    still have a part in their group's mean (DAPO's overlong filtering)."""
    overlong_buffer: int = Field(default=0, ge=0)
    """Tokens before `sampling.max_tokens` over which a penalty grows from 0 to 1, to be taken from the reward (DAPO,
    eq. 13); 0 takes none."""
    minibatches: int = Field(default=1, ge=1)
    """Parts of a step's groups, with an optimizer step for each."""
    epochs: int = Field(default=1, ge=1)
    """Times that a step's groups are learned from, each in another order."""
    tokens_per_microbatch: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Most tokens that are under way at a time; it changes memory, never the update. `auto` is as many as
    the memory is planned to hold: up to 32,768 on a GPU, and up to 4096 on a CPU, whose memory is others', too."""
    compile: bool = True
    """Compile the model's blocks on a GPU, which fuses their small operations; the first update takes up to a minute
    longer. Mixtures' blocks and sharded models stay as they are."""
    tokens_per_row: int = Field(default=1024, ge=1)
    """Completions of a group share one copy of their prompt in rows of at most this many tokens."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Keep each layer's input alone and compute the rest again in the backward pass. `auto` does on a GPU whose memory
    would not hold the longest row otherwise, as `rankone plan` counts it."""
    router_replay: bool = False
    """Send each token of a mixture to the experts that it was sent to when it was sampled (R3, Ma et al. 2025): engine
    and learner round differently, and without it some tokens' ratios are of other experts (docs/experts.md)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the learner computes on; `auto` is a GPU if there is one."""
    num_learners: Annotated[int, Field(ge=1, le=MOST_PROCESSES)] | Literal["auto"] = "auto"
    """Learners that share a step's rows; of the model they exchange the adapter's gradients alone. `auto` is as many of
    the cluster's GPUs as let sampling and updates take about equally long, and 1 where there are fewer than two."""
    shard: bool = False
    """Each learner keeps a part of every block's base weights and fetches the rest as it needs it: for models that do
    not fit one device."""
    max_restarts: int = Field(default=3, ge=0)
    """Times in a row, with no step done in between, that a learner that died is started again."""
    stall_timeout: float = Field(default=1800.0, gt=0, le=WEEK_S)
    """Seconds without an answer after which the learner counts as dead."""

    @property
    def learner_count(self) -> int:
        """Learners that there are unless a cluster's GPUs say otherwise."""
        return 1 if self.num_learners == "auto" else self.num_learners

    @field_validator("eps")
    @classmethod
    def _is_seen_beside_zero(cls, eps: float) -> float:
        if not eps >= SMALLEST_EPS:
            raise ValueError(
                f"learner.eps must be at least {SMALLEST_EPS:g}, and is {eps:g}: where a gradient is 0, as that of "
                "every lora_A is at the first step, Adam divides 0 by it; leave it at 1e-8"
            )
        return eps
