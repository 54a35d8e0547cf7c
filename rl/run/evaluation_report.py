"""An evaluation as files: a table for people, a line for each completion, and a page on which to read them."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lora.files.atomic_write import write_atomic
from rewards.types import Outcome
from rl.algorithm.evaluation.held_out import Evaluation
from rl.config import RunConfig
from rl.run.journal import episode_fields
from rl.types import Episode, Group
from rollout.types import Completion

SETTINGS = ("samples_per_problem", "temperature", "top_p", "top_k", "min_p")
"""Settings of an evaluation that a number means nothing without."""
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; background: #f4f4f4; padding: .5rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: left; border-bottom: 1px solid #ddd }
.correct { border-left: 4px solid #2a2 } .other { border-left: 4px solid #c33 }
.environment { margin-left: 2rem; color: #555 }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content that a browser may load: none, so that a text that were taken for markup would still do nothing."""


def write_report(directory: Path, evaluation: Evaluation, config: RunConfig, policy: str) -> None:
    """Write `report.md`, `completions.jsonl` and `completions.html` into a directory that is there.

    `policy` says in words which one was evaluated.

    Raises:
        OSError: the directory cannot be written.
    """
    rows = completion_rows(evaluation.all_groups)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    facts = _facts(config, policy)
    write_atomic(directory / "report.md", _utf8(markdown(evaluation, facts)))
    write_atomic(directory / "completions.jsonl", lines.encode())
    write_atomic(directory / "completions.html", _utf8(html(evaluation, facts)))


def completion_rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return an object for each completion: the question, what was written, and its grade."""
    return [
        {
            "problem": group.problem.id,
            "sample": sample,
            "question": group.problem.question,
            "answer": group.problem.answer,
            "completion": completion.text,
            "num_tokens": completion.num_sampled,
            "finish_reason": completion.finish_reason,
            "reward": reward.value,
            "outcome": str(reward.outcome),
            **episode_fields(completion),
        }
        for group in groups
        for sample, (completion, reward) in enumerate(zip(group.completions, group.rewards, strict=True))
    ]


def markdown(evaluation: Evaluation, facts: Sequence[tuple[str, str]]) -> str:
    """Return the figures as tables. Nothing in them was written by a model."""
    table = [f"| {name} | {value} | {low} to {high} |" for name, value, low, high in _figures(evaluation)]
    outcomes = [f"| {outcome} | {count} |" for outcome, count in _outcomes(evaluation)]
    return "\n".join(
        [
            "# Evaluation", "", *(f"* {name}: {value}" for name, value in facts), "",
            "| | value | 95 % interval |", "|---|---|---|", *table, "",
            "| outcome | completions |", "|---|---|", *outcomes, "",
        ]
    )  # fmt: skip


def html(evaluation: Evaluation, facts: Sequence[tuple[str, str]]) -> str:
    """Return a page with every completion. What a model wrote is text on it, whatever it looks like."""
    figures = "".join(_row(name, value, f"{low} to {high}") for name, value, low, high in _figures(evaluation))
    outcomes = "".join(_row(outcome, str(count)) for outcome, count in _outcomes(evaluation))
    return "".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>Evaluation</title><style>{STYLE}</style></head><body><h1>Evaluation</h1><ul>",
            *(f"<li>{escape(name)}: {escape(value)}</li>" for name, value in facts),
            f"</ul><table><tr><th></th><th>value</th><th>95 % interval</th></tr>{figures}</table>",
            f"<table><tr><th>outcome</th><th>completions</th></tr>{outcomes}</table>",
            *(part for group in evaluation.all_groups for part in _problem(group)),
            "</body></html>\n",
        ]
    )


def _problem(group: Group) -> Iterator[str]:
    yield f"<h2>{escape(group.problem.id)}</h2><pre>{escape(group.problem.question)}</pre>"
    yield f"<p>answer</p><pre>{escape(group.problem.answer)}</pre>"
    for completion, reward in zip(group.completions, group.rewards, strict=True):
        kind = "correct" if reward.outcome is Outcome.CORRECT else "other"
        length = f"{completion.num_sampled} tokens, {completion.finish_reason}"
        yield f"<p>{escape(str(reward.outcome))}, reward {reward.value:g}, {escape(length)}</p>"
        yield from _written(completion, kind)


def _written(completion: Completion, kind: str) -> Iterator[str]:
    """Yield what was written, turn by turn where an environment answered."""
    if not isinstance(completion, Episode):
        yield f'<pre class="{kind}">{escape(completion.text)}</pre>'
        return
    for turn in completion.turns:
        of_policy = turn["role"] == "assistant"
        yield f'<pre class="{kind if of_policy else "environment"}">{escape(turn["content"])}</pre>'


def _data(config: RunConfig) -> str:
    """Return the sources of the problems."""
    return config.data.source if not isinstance(config.data, tuple) else ", ".join(each.key for each in config.data)


def _facts(config: RunConfig, policy: str) -> list[tuple[str, str]]:
    """Return what was evaluated and how, by name."""
    tokens = config.evaluate.max_tokens or config.sampling.max_tokens
    settings = [(name, str(getattr(config.evaluate, name))) for name in SETTINGS]
    described = [("model", config.model.name), ("policy", policy), ("data", _data(config))]
    return [*described, *settings, ("max_tokens", str(tokens)), ("seed", str(config.seed))]


def _figures(evaluation: Evaluation) -> list[tuple[str, str, str, str]]:
    return [
        (name, f"{estimate.value:.4f}", f"{estimate.low:.4f}", f"{estimate.high:.4f}")
        for name, estimate in evaluation.estimates().items()
    ]


def _outcomes(evaluation: Evaluation) -> list[tuple[str, int]]:
    """Return how many completions ended how, the commonest first."""
    return Counter(str(reward.outcome) for group in evaluation.all_groups for reward in group.rewards).most_common()


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _utf8(text: str) -> bytes:
    """Encode a text in which a model may have left half a character."""
    return text.encode("utf-8", "replace")
