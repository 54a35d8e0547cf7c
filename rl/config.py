"""Settings of a run. `RunConfig` composes the configurations of the four packages."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lora.config import LoraConfig, ModelConfig
from rewards.config import RewardConfig
from rollout.config import MOST_OF_A_PROBLEM, MinP, RolloutConfig, SamplingConfig, Temperature, TopK, TopP

MOST_PROBLEMS = 1_000_000
"""Most problems that may be made up or held out."""
WEEK_S = 7 * 24 * 3600.0
"""Longer than anything here is to be waited for."""
MOST_PROCESSES = 4096
"""Most processes of each kind in a run; also what a placement group of Ray's may hold with some effort."""

SMALLEST_EPS = 1e-18
"""Smallest eps of Adam: float32 has 0 for squares of smaller gradients, so a smaller one would bound no quotient."""
MAX_COMPLETIONS = 2**32
"""Random streams of a run: as many seeds as torch's generators on a CPU tell apart (see `rl.algorithm.seeds`)."""


class Strict(BaseModel):
    """Immutable, and refuses keys it does not know, and numbers that are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Addition(Strict):
    """Additions made by the program: a + b with numbers of `digits` digits."""

    source: Literal["addition"] = "addition"
    """Additions made by the program."""
    digits: int = Field(default=2, ge=1, le=9)
    """Digits of both numbers."""
    num_train: int = Field(default=4000, ge=1, le=MOST_PROBLEMS)
    """Problems made for training."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Problems made for evaluation; none of them is trained on."""


class JsonLines(Strict):
    """JSON lines of your own, one problem a line."""

    source: Literal["jsonl"]
    """A file of JSON lines."""
    train: str
    """The file."""
    held_out: str | None = None
    """A second file; without one, `num_held_out` problems are taken from the first."""
    question: str = "question"
    """The column that holds the question, or a text with several columns in it: `"{Body} {Question}"`."""
    answer: str = "answer"
    """The column that holds the answer."""
    answer_after: str | None = Field(default=None, min_length=1)
    """Only what follows this text's last occurrence in the answer column is the answer, as in `#### 72`."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Problems set apart for evaluation."""


class Gsm8k(Strict):
    """A directory in GSM8K's layout: train.jsonl and test.jsonl, the answer behind `####`."""

    source: Literal["gsm8k"]
    """A directory in GSM8K's layout."""
    path: str
    """The directory that holds train.jsonl and test.jsonl."""


class Math(Strict):
    """MATH's layout: JSON lines with `problem` and `answer` (or a `solution` with a box)."""

    source: Literal["math"]
    """Files in MATH's layout."""
    train: str
    """The file."""
    held_out: str | None = None
    """A second file; without one, `num_held_out` problems are taken from the first."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Problems set apart for evaluation."""


class Hub(Strict):
    """A data set of a hub, or a local one, through the `datasets` library."""

    source: Literal["hub"]
    """The `datasets` library."""
    path: str
    """The id of a data set on a hub, or a local directory or file."""
    name: str | None = None
    """The data set's configuration, where it has several (such as GSM8K's `main`)."""
    train_split: str = "train"
    """The split to train on."""
    held_out_split: str | None = "test"
    """A split of that name; `"none"` takes `num_held_out` problems from the first instead."""
    question: str = "question"
    """A column, or a text with several columns in it, as in `jsonl`."""
    answer: str = "answer"
    """The column that holds the answer."""
    answer_after: str | None = Field(default=None, min_length=1)
    """Only what follows this text's last occurrence in the answer column is the answer."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Problems set apart for evaluation."""


class ReasoningGym(Strict):
    """A task of `reasoning-gym` by its name, graded by the default reward unless you name another."""

    source: Literal["reasoning_gym"]
    """A task of reasoning-gym."""
    task: str
    """The task's name, such as `chain_sum`."""
    options: dict[str, int | float | str | bool] = Field(default_factory=dict)
    """The task's own settings, such as `max_terms = 4`."""
    num_train: int = Field(default=4000, ge=1, le=MOST_PROBLEMS)
    """Problems made for training."""
    num_held_out: int = Field(default=256, ge=1, le=MOST_PROBLEMS)
    """Problems made for evaluation; none of them is trained on."""


DataConfig = Annotated[Addition | JsonLines | Gsm8k | Math | Hub | ReasoningGym, Field(discriminator="source")]


class Shot(Strict):
    """One worked example, shown as an earlier turn of the chat."""

    question: str
    """The user's question."""
    answer: str
    """The model's answer."""


class PromptConfig(Strict):
    """The chat that a problem becomes."""

    system: str | None = None
    """The system turn; without it, the chat template's own default applies."""
    suffix: str = ""
    """Appended to every question as it stands: begin it with a space or a line break."""
    shots: tuple[Shot, ...] = ()
    chat_template: bool = True
    """Off for base models: system text, shots and question are then plain text, a blank line between them."""
    template_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Variables for the chat template, such as Qwen3's `enable_thinking = false`."""


class LearnerConfig(Strict):
    """The update that graded groups become."""

    weights: Literal["lora", "full"] = "lora"
    """Trained weights: the adapter's, or every weight of the model in float32, for comparison."""
    lr: float = Field(default=5e-5, gt=0, le=100)
    """Adam's learning rate. LoRA wants about ten times full fine-tuning's."""
    lr_schedule: Literal["constant", "linear"] = "constant"
    """`linear` falls to 0 at `num_steps`: the last policy swings less, but a longer run has another curve."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's decay of the mean of gradients."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Adam's decay of the mean of their squares."""
    eps: float = 1e-8
    """Adam's, added to the root of the second moment; at least 1e-18."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients whose norm is larger are scaled down to it; `"none"` leaves them."""
    objective: Literal["importance", "reinforce", "ppo", "cispo", "gspo", "cross_entropy"] = "importance"
    """`importance` is truncated importance sampling per token; `cross_entropy` is `rankone sft`'s, which sets it."""
    max_ratio: float = Field(default=2.0, gt=0)
    """Truncation C of `importance` and upper clip of `cispo`."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Lower clip of `ppo`, and of `cispo`: ratios below 1 minus this."""
    clip_high: float = Field(default=0.28, gt=0)
    """Upper clip of `ppo`: ratios above 1 plus this. A wider upper side keeps exploration alive (DAPO, 2025)."""
    gspo_clip_low: float = Field(default=3e-4, gt=0, lt=1)
    """Lower clip of `gspo`: ratios below 1 minus this."""
    gspo_clip_high: float = Field(default=4e-4, gt=0)
    """Upper clip of `gspo`. A completion's ratio is the geometric mean of its tokens', so it stays near 1 (Zheng et al.
    2025)."""
    advantage: Literal["mean", "mean_std", "leave_one_out"] = "mean"
    """A reward minus its group's mean; `mean_std` also divides by the standard deviation (GRPO), `leave_one_out`
    takes the mean of the others (RLOO)."""
    tokens_per_microbatch: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Most tokens that are under way at a time; it changes memory, never the update. `auto` is 4096 on a CPU, and on a
    GPU as many as its memory is planned to hold, up to 32,768."""
    compile: bool = True
    """Compile the model's blocks on a GPU, which fuses their small operations; the first update takes up to a minute
    longer. Mixtures' blocks and sharded models stay as they are."""
    tokens_per_row: int = Field(default=1024, ge=1)
    """Completions of a group share one copy of their prompt in rows of at most this many tokens."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Keep each layer's input alone and compute the rest again in the backward pass. `auto` does on a GPU whose memory
    would not hold the longest row otherwise, as `rankone plan` counts it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the learner computes on; `auto` is a GPU if there is one."""
    num_learners: int = Field(default=1, ge=1, le=MOST_PROCESSES)
    """Learners that share a step's rows; of the model they exchange the adapter's gradients alone."""
    shard: bool = False
    """Each learner keeps a part of every block's base weights and fetches the rest as it needs it: for models that do
    not fit one device."""
    max_restarts: int = Field(default=3, ge=0)
    """Times in a row, with no step done in between, that a learner that died is started again."""
    stall_timeout: float = Field(default=1800.0, gt=0, le=WEEK_S)
    """Seconds without an answer after which the learner counts as dead."""

    @field_validator("eps")
    @classmethod
    def _is_seen_beside_zero(cls, eps: float) -> float:
        if not eps >= SMALLEST_EPS:
            raise ValueError(
                f"learner.eps must be at least {SMALLEST_EPS:g}, and is {eps:g}: where a gradient is 0, as that of "
                "every lora_A is at the first step, Adam divides 0 by it; leave it at 1e-8"
            )
        return eps


class SftConfig(Strict):
    """Supervised fine-tuning (`rankone sft`): completions are given, not sampled."""

    completion: str = Field(default="{answer}", min_length=1)
    """Text that the policy is to write, with the problem's columns in it, such as `"{solution}\n#### {answer}"`, or
    a column's name."""
    accuracy: bool = False
    """Also let the policy answer the held-out problems at every evaluation, which needs a rollout engine."""


class EvaluateConfig(Strict):
    """Accuracy on held-out problems."""

    every: int = Field(default=10, ge=1)
    """Steps between evaluations; the first and last policies are always evaluated."""
    num_problems: int = Field(default=256, ge=1)
    """Held-out problems that are answered, a random sample drawn once; all where there are fewer."""
    samples_per_problem: int = Field(default=1, ge=1, le=MOST_OF_A_PROBLEM)
    """Answers to each; above 1, `eval/pass_at_k` is measured."""
    temperature: Temperature = 0.0
    """Sampling temperature; 0 is greedy."""
    top_p: TopP = 1.0
    """Answer with the likeliest tokens alone that together have this probability."""
    top_k: TopK = 0
    """Answer with so many of the likeliest tokens alone; 0 is all of them."""
    min_p: MinP = 0.0
    """Answer with those tokens alone whose probability is at least this share of the likeliest one's."""


class LivenessConfig(Strict):
    """The check that the engines sample from the policy they were given, not from the base or an older one."""

    every: int = Field(default=5, ge=1)
    """Steps between checks; the first steps are always checked."""
    tolerance: float = Field(default=0.2, gt=0)
    """Largest mean absolute difference of logprobs, in nats a token, that rounding may make between an engine and the
    learner."""


class GuardConfig(Strict):
    """Alarms on signs of a collapse, and what they do.

    "Usual" is the median of the last `window` steps, and nothing is unusual before there are `window` of them.
    """

    action: Literal["off", "warn", "stop", "roll_back"] = "warn"
    """`roll_back` goes on from the best checkpoint at `lr_factor` times the learning rate."""
    patience: int = Field(default=3, ge=1)
    """Steps in a row with an alarm before the run stops or rolls back: one bad step is no collapse. So many steps in a
    row in which all completions fail alike are an alarm."""
    window: int = Field(default=10, ge=2)
    """Steps whose median is the usual value."""
    max_kl: float = Field(default=0.1, gt=0)
    """Highest `update/kl_sampler_learner`, in nats a token. On policy it is rounding, about 0.001, and what
    `sampling.top_p`, `top_k` and `min_p` cut off."""
    max_growth: float = Field(default=4.0, gt=1)
    """Highest entropy, completion length and gradient norm, as multiples of their usual values; and the smallest
    completion length is the usual one divided by it."""
    min_entropy: float = Field(default=1e-4, ge=0)
    """Lowest entropy, in nats a token: below it nothing is left to explore."""
    max_truncated_rise: float = Field(default=0.3, gt=0)
    """Largest rise of `completion/truncated_fraction` above its usual value."""
    max_accuracy_drop: float = Field(default=0.3, gt=0)
    """Largest fall of `eval/accuracy` below the run's best."""
    lr_factor: float = Field(default=0.5, gt=0, le=1)
    """Factor by which a roll-back multiplies the learning rate."""
    max_roll_backs: int = Field(default=3, ge=1)
    """The next collapse after that many stops the run."""


Amount = Annotated[float, Field(ge=1e-4, allow_inf_nan=False)]
"""An amount of one of Ray's resources, which are counted in ten-thousandths."""


class PlacementConfig(Strict):
    """The nodes of a cluster that learner and rollout workers run on, each in a bundle of a placement group."""

    strategy: Literal["auto", "PACK", "SPREAD"] = "auto"
    """`PACK` uses few nodes, `SPREAD` many; `auto` packs GPUs, and spreads over nodes that have none."""
    learner_resources: dict[str, Amount] = Field(default_factory=dict)
    """More that the learner's node must have, in Ray's words, such as `{ "accelerator_type:H100" = 0.001 }`."""
    worker_resources: dict[str, Amount] = Field(default_factory=dict)
    """The same for each rollout worker."""
    wait_for_nodes: Literal["auto", "yes", "no"] = "auto"
    """Wait for more nodes if a run is too large for those there are; `auto` does where Ray autoscales."""

    @field_validator("learner_resources", "worker_resources")
    @classmethod
    def _not_counted_elsewhere(cls, resources: dict[str, float]) -> dict[str, float]:
        if "GPU" in resources:
            raise ValueError(
                "GPU: a learner has one by itself and a rollout worker rollout.tensor_parallel_size; "
                "set learner.num_learners, rollout.num_workers or rollout.tensor_parallel_size"
            )
        if "object_store_memory" in resources:
            raise ValueError("object_store_memory: Ray cannot reserve it; set --object-store-memory of `ray start`")
        return resources


class RunConfig(Strict):
    """One run, whole."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Begins the name of the run's directory, and names it on pages and in trackers."""
    seed: int = Field(default=0, ge=0, lt=2**32)  # numpy takes no other, and vLLM seeds it
    """Decides the adapter's beginning, the data, their order, and all that is sampled."""
    num_steps: int = Field(default=100, ge=0, le=10_000_000)
    """Optimizer steps of the whole run."""
    problems_per_step: int = Field(default=16, ge=1, le=65_536)
    """Problems drawn for each step; every one is answered `sampling.group_size` times."""
    checkpoint_every: int = Field(default=1, ge=1)
    """Steps between checkpoints; a rank-1 policy's is a few MB."""
    max_off_policy_steps: int | None = Field(default=None, ge=0, le=8)
    """Updates by which the policy that samples may be older than the learner's, so that both work at once. By default 1
    where learner and rollout workers have devices of their own, else 0. A resumed run samples the steps that were in
    flight anew, from the policy it resumes with: only 0 ends the same bit for bit."""
    runtime: Literal["auto", "ray", "local"] = "auto"
    """`local` runs everything in this process: for tiny models, and for debugging. By default a run is on a Ray
    cluster, unless `rankone sft` has one learner and no use for a rollout engine."""
    server: str | None = None
    """URL of a `rankone serve` that trains and samples for this run; its key is read from `RANKONE_API_KEY`."""
    tensorboard: bool = True
    """Write TensorBoard's event files into the run's directory."""
    wandb: str | None = None
    """The project of Weights & Biases that the run is also told to, if any."""
    mlflow: str | None = None
    """The experiment of MLflow's that the run is also told to, if any; `MLFLOW_TRACKING_URI` says where."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = Addition()
    prompt: PromptConfig = PromptConfig()
    lora: LoraConfig = LoraConfig()
    learner: LearnerConfig = LearnerConfig()
    sampling: SamplingConfig = SamplingConfig()
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    sft: SftConfig = SftConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    liveness: LivenessConfig = LivenessConfig()
    guard: GuardConfig = GuardConfig()
    placement: PlacementConfig = PlacementConfig()

    @property
    def on_ray(self) -> bool:
        """True if learner and workers are actors of its own; False if they are in this process or a server's."""
        return self.runtime != "local" and self.server is None

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.runtime == "local" and self.rollout.engine == "vllm":
            raise ValueError('runtime = "local" runs the torch engine; set rollout.engine = "torch" or runtime = "ray"')
        if self.runtime == "local" and self.learner.num_learners > 1:
            raise ValueError('learner.num_learners above 1 needs runtime = "ray", or set it to 1')
        if self.learner.shard and (self.learner.num_learners == 1 or self.learner.weights == "full"):
            raise ValueError('learner.shard needs learner.num_learners above 1 and learner.weights = "lora"')
        if self.learner.weights == "full" and self.rollout.engine == "vllm":
            raise ValueError(
                'learner.weights = "full" is sampled by the torch engine, because vLLM serves adapters; '
                'set rollout.engine = "torch"'
            )
        if self.lora.init is not None and self.learner.weights == "full":
            raise ValueError(
                'lora.init names an adapter, and learner.weights = "full" trains none; merge it into a model with '
                "`rankone export --merge` and name that as model.name"
            )
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature 0 makes a group's completions equal, so nothing is learned; use 1.0")
        if self.sampling.top_k == 1:
            raise ValueError("sampling.top_k 1 makes a group's completions equal, so nothing is learned; use 0")
        if self.sampling.group_size < 2:
            raise ValueError("sampling.group_size must be at least 2: a group's mean reward is the baseline")
        if self.sampling.max_tokens >= self.model.max_length:
            raise ValueError("sampling.max_tokens must be below model.max_length, which holds the prompt too")
        if self.num_completions > MAX_COMPLETIONS:
            raise ValueError(
                f"a run has at most {MAX_COMPLETIONS:,} random streams, one a completion, and num_steps x "
                "problems_per_step x sampling.group_size + evaluate.num_problems x evaluate.samples_per_problem is "
                f"{self.num_completions:,}: lower num_steps, or another of these"
            )
        return self

    @property
    def num_completions(self) -> int:
        """Completions that the whole run trains on, and those of one evaluation."""
        trained = self.num_steps * self.problems_per_step * self.sampling.group_size
        return trained + self.evaluate.num_problems * self.evaluate.samples_per_problem


C = TypeVar("C", bound=BaseModel)


def replaced(config: C, **changes: Any) -> C:
    """Return a copy with these keys changed, checked as if it had been read from a file.

    A dict changes some keys of a table, and anything else takes the place of what was there:
    ``replaced(config, num_steps=3, rollout={"engine": "torch"})``.

    Raises:
        ValueError: a key or a value is none that the configuration may have.
    """
    values = {name: getattr(config, name) for name in type(config).model_fields}
    for name, change in changes.items():
        table = values.get(name)
        values[name] = (
            replaced(table, **change) if isinstance(table, BaseModel) and isinstance(change, dict) else change
        )
    try:
        return type(config).model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(map(_reason, error.errors(include_url=False)))) from None


def _reason(detail: Mapping[str, Any]) -> str:
    message = str(detail.get("ctx", {}).get("error") or detail["msg"])
    return ": ".join([*([".".join(map(str, detail["loc"]))] if detail["loc"] else []), message])
