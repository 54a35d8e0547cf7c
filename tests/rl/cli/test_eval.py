"""`rankone eval`: the figures of a run's own row, a report of every completion, and answers of a length of their own."""

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import Result
from helpers.fakes import RIGHT, WRONG
from typer.testing import CliRunner

from rewards.types import Problem
from rl.algorithm.evaluation.held_out import summarise
from rl.cli.app import app
from rl.config import RunConfig, replaced
from rl.launch.sft_recipe import SFT
from rl.launch.train_recipe import TRAIN, prepare_evaluation
from rl.run.evaluation_report import write_report
from rl.settings.toml import load_config
from rl.sweep.points import load_sweep
from rl.sweep.run import prepare_sweep
from rl.types import Group
from rollout.types import Completion

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny.toml"
SETTINGS = {
    "num_steps": "0", "reward.workers": "1", "tensorboard": "false", "evaluate.num_problems": "8",
    "evaluate.samples_per_problem": "6", "evaluate.temperature": "1.0", "evaluate.pass_at": "[2, 6]",
    "evaluate.max_tokens": "2",
}  # fmt: skip


def rankone(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that did nothing but evaluate the base model once."""
    home = tmp_path_factory.mktemp("runs")
    out, reward = home / "run", home / "reward.py"
    reward.write_text("def digit(problem, completion):\n    return float(any(map(str.isdigit, completion)))\n")
    settings = SETTINGS | {"reward.function": f"{reward}:digit"}
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    trained = rankone("train", EXAMPLE, "--out", out, *sets)
    assert trained.exit_code == 0, trained.output
    return out


def test_it_prints_the_figures_of_the_runs_row_and_writes_them_down(finished: Path, tmp_path: Path) -> None:
    (row,) = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    result = rankone("eval", finished / "config.toml", "--adapter", finished, "--report", tmp_path / "a" / "report")
    assert result.exit_code == 0, result.output
    low, high = row["eval/accuracy_low"], row["eval/accuracy_high"]
    interval = f"95 % interval {low:.4f} to {high:.4f}"
    assert f"avg@6     {row['eval/accuracy']:.4f}  {interval}\n" in result.output
    for k in (2, 6):
        assert f"pass@{k}    {row[f'eval/pass_at/{k}']:.4f}  95 % interval " in result.output
    assert 0 < row["eval/pass_at/2"] < row["eval/pass_at/6"] == row["eval/pass_at_k"]
    table = (tmp_path / "a" / "report" / "report.md").read_text()
    assert f"| avg@6 | {row['eval/accuracy']:.4f} | {low:.4f} to {high:.4f} |" in table
    assert f"| pass@2 | {row['eval/pass_at/2']:.4f} |" in table
    written = [json.loads(line) for line in (tmp_path / "a" / "report" / "completions.jsonl").read_text().splitlines()]
    assert [line["sample"] for line in written] == [*range(6)] * 8
    assert len({line["problem"] for line in written}) == 8
    assert max(line["num_tokens"] for line in written) == 2
    assert sum(line["outcome"] == "correct" for line in written) / 48 == pytest.approx(row["eval/accuracy"])


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    result = rankone("eval", finished / "config.toml", "--report", tmp_path / "file")
    assert (result.exit_code, "held-out" in result.output) == (1, False), result.output
    assert str(tmp_path / "file") in result.stderr
    assert (tmp_path / "file").read_text() == "precious"


HOSTILE = (
    "<script>fetch('//evil')</script>",
    "</pre></body><img src=x onerror=alert(1)>",
    '"><iframe srcdoc="<script>1</script>">',
    "&lt;script&gt; <!-- ]]> \ud800 \u202e",
)


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_a_model_wrote_is_text_on_the_page_whatever_it_looks_like(tmp_path: Path) -> None:
    completions = [Completion((3, 4), (0.0, 0.0), text, "stop", 0) for text in HOSTILE]
    problem = Problem("<b>id</b>", "<script>question</script>", "<script>answer</script>")
    group = Group(problem, [1], completions, [RIGHT, WRONG, WRONG, WRONG])
    write_report(tmp_path, summarise([group], (1,)), RunConfig(), "<script>policy</script>")
    page = Page((tmp_path / "completions.html").read_text())
    assert page.tags <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "ul",
        "li",
        "table",
        "tr",
        "th",
        "td",
        "p",
        "pre",
    }
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "class"}
    for text in (*HOSTILE, problem.id, problem.question, problem.answer, "<script>policy</script>"):
        assert text.encode("utf-8", "replace").decode() in page.text
    assert "default-src 'none'" in (tmp_path / "completions.html").read_text()
    for line in (tmp_path / "completions.jsonl").read_text().splitlines():
        assert json.loads(line)["completion"] in HOSTILE


# --- answers of a length of their own ---


def longest_prompt(config: RunConfig) -> int:
    return TRAIN.prepare(config, EXAMPLE.parent).longest_prompt


def test_a_prompt_that_leaves_no_room_for_an_evaluation_is_refused_before_the_run() -> None:
    config = load_config(EXAMPLE)
    most = config.model.max_length - longest_prompt(config)
    assert longest_prompt(replaced(config, evaluate={"max_tokens": most})) > 0
    tight = replaced(config, evaluate={"max_tokens": most + 1})
    answering = replaced(tight, sft={"accuracy": True, "completion": "{answer}"})
    for prepare in (TRAIN.prepare, prepare_evaluation, lambda *_: SFT.prepare(answering, EXAMPLE.parent)):
        with pytest.raises(ValueError, match=r"has a prompt of \d+ tokens, above .* evaluate.max_tokens"):
            prepare(tight, EXAMPLE.parent)


def test_every_run_of_a_sweep_has_the_room_that_its_own_evaluation_leaves(tmp_path: Path) -> None:
    config = load_config(EXAMPLE)
    most = config.model.max_length - longest_prompt(config)
    file = tmp_path / "sweep.toml"
    file.write_text(f'base = "{EXAMPLE}"\n[axes]\n"evaluate.max_tokens" = [2, 3, {most}]\n')
    prepared = prepare_sweep(load_sweep(file, []))
    assert [run.config.evaluate.max_tokens for run in prepared] == [2, 3, most]
    assert prepared[0].encode is prepared[1].encode is not prepared[2].encode  # both are within sampling.max_tokens
    file.write_text(f'base = "{EXAMPLE}"\n[axes]\n"evaluate.max_tokens" = [2, {most + 1}]\n')
    with pytest.raises(ValueError, match=r"p001.*: problem .* has a prompt of"):
        prepare_sweep(load_sweep(file, []))


def test_it_answers_the_other_sets_too_as_the_run_did(finished: Path, tmp_path: Path) -> None:
    rows = [{"question": f"{digit}", "answer": f"{digit}"} for digit in range(5)]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sets = f'evaluate.sets=[{{ name = "digits", file = "{tmp_path / "set.jsonl"}" }}]'
    arguments = ("--adapter", finished, "--set", sets, "--report", tmp_path / "report")
    result = rankone("eval", finished / "config.toml", *arguments)
    assert result.exit_code == 0, result.output
    for name in ("avg@6", "digits avg@6", "digits pass@2"):
        assert any(line.startswith(f"{name} ") for line in result.output.splitlines()), result.output
    assert "| digits avg@6 |" in (tmp_path / "report" / "report.md").read_text()
    written = [json.loads(line) for line in (tmp_path / "report" / "completions.jsonl").read_text().splitlines()]
    assert len(written) == 6 * (8 + 5)
    assert sum(row["problem"].startswith("digits/") for row in written) == 30
