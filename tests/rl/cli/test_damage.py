"""A run's directory, damaged in every way, and a configuration with every key at its extremes: every command ends soon,
with exit status 0, 1 or 2, and says what is wrong in one line."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from helpers.zygote import Ended, Zygote

from rl.settings.keys import Key, all_keys
from rl.settings.toml import load_config

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "tiny.toml"
SMALL = {
    "num_steps": 2, "problems_per_step": 4, "sampling.group_size": 2, "evaluate.every": 2, "evaluate.num_problems": 4,
    "reward.workers": 1, "checkpoint_every": 1,
}  # fmt: skip
SETS = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]


def check(ended: Ended, what: object) -> None:
    """See that it ended as a command may end."""
    assert ended.status in (0, 1, 2), (what, ended)
    assert "Traceback" not in ended.output, (what, ended.output)
    if ended.status:
        lines = [line for line in ended.output.splitlines() if line.startswith("rankone: ")]
        assert len(lines) == 1, (what, ended.output)
        assert len(lines[0]) < 1500, (what, lines)


# --- files ---

COMMANDS: dict[str, Callable[[Path, Path], list[object]]] = {
    "resume": lambda run, out: ["train", EXAMPLE, *SETS, "--out", run, "--resume"],
    "report": lambda run, out: ["report", run, "--out", out],
    "export": lambda run, out: ["export", run, "--out", out],
    "eval": lambda run, out: ["eval", run / "config.toml", "--adapter", run],
}
QUICK = ("report", "export")
TRIES = {"resume": 9, "eval": 4, "report": 60, "export": 60}


def truncated(file: Path, rng: random.Random) -> None:
    os.truncate(file, rng.randrange(file.stat().st_size))


def flipped(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(3):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def overwritten(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    start = rng.randrange(len(content))
    content[start : start + 64] = rng.randbytes(64)
    file.write_bytes(content)


def emptied(file: Path, rng: random.Random) -> None:
    file.write_bytes(b"")


def appended(file: Path, rng: random.Random) -> None:
    with file.open("ab") as sink:
        sink.write(rng.choice((b"[1]\n", b"null\n", b'{"a": 1}\n', b'{"step": "x"}\n', b"[" * 5000, b"\xff\n", b"{")))


def foreign(file: Path, rng: random.Random) -> None:
    file.write_bytes(rng.choice((b"[]", b"null", b"{}", b"\x08\0\0\0\0\0\0\0{}      ", b"PK\3\4", b"[" * 100_000)))


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path, random.Random], None]:
    def replace(path: Path, rng: random.Random) -> None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)

    return replace


DAMAGE: dict[str, Callable[[Path, random.Random], None]] = {
    "truncated": truncated, "flipped": flipped, "overwritten": overwritten, "emptied": emptied, "appended": appended,
    "foreign": foreign,
}  # fmt: skip
REPLACED: dict[str, Callable[[Path, random.Random], None]] = {
    "nothing": replaced_by(lambda path: None),
    "a directory": replaced_by(Path.mkdir),
    "a file": replaced_by(lambda path: path.write_text("x")),
    "a fifo": replaced_by(os.mkfifo),
    "a link to nothing": replaced_by(lambda path: path.symlink_to("nowhere")),
    "a link to itself": replaced_by(lambda path: path.symlink_to(path.name)),
    "a link to a device": replaced_by(lambda path: path.symlink_to("/dev/zero")),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Path:
    """A run that is done, with everything that a run leaves."""
    out = tmp_path_factory.mktemp("runs") / "run"
    ended = zygote.rankone("train", EXAMPLE, *SETS, "--out", out, seconds=300)
    assert ended.status == 0, ended.output
    return out


def hurt(run: Path) -> Iterator[tuple[str, str, Callable[[Path, random.Random], None]]]:
    """Every part of a run, and every way to damage it: the part's name, the damage's, and what does it."""
    for path in sorted(run.rglob("*")):
        for name, damage in REPLACED.items() if path.is_dir() else (DAMAGE | REPLACED).items():
            if path.is_dir() or path.stat().st_size or name not in DAMAGE:
                yield str(path.relative_to(run)), name, damage


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_run_ends_every_command_in_one_line_at_most(
    run: Path, zygote: Zygote, tmp_path: Path, command: str
) -> None:
    rng = random.Random(f"damage/{command}")
    ways = list(hurt(run))
    assert len({name for name, *_ in ways}) > 12
    for number, (part, name, damage) in enumerate(rng.sample(ways, TRIES[command])):
        copy = tmp_path / f"run-{number}"
        shutil.copytree(run, copy)
        damage(copy / part, rng)
        ended = zygote.rankone(*COMMANDS[command](copy, tmp_path / f"out-{number}"), seconds=120)
        check(ended, (command, part, name))
        remove(copy)


def remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


# --- keys ---

TEXTS = [
    "",
    " ",
    "x" * 100_000,
    "\0",
    "\x1b[2J\n",
    "[/b]",
    "\ud800",
    "none",
    "../" * 99,
    "~nobody/x",
    "💥",
    "a/b",
    "/dev/zero",
]
NUMBERS = [
    "0",
    "-1",
    "1",
    "1e308",
    "-1e308",
    "1e-308",
    "nan",
    "inf",
    "-inf",
    "9" * 30,
    "-" + "9" * 30,
    "9" * 5000,
    "0.1",
]
OTHERS = [
    "true",
    "[]",
    "{}",
    '"x"',
    "3",
    "[[[]]]",
    "1979-05-27",
    "[1, 'a']",
    "{a = 1}",
    "['" + "x" * 1000 + "']",
    "{'' = ''}",
]


def extremes(key: Key) -> list[str]:
    """Values for a key: its type's extremes, and other types'."""
    found = [*OTHERS]
    for kind in key.types:
        if kind in (int, float):
            found += NUMBERS
        elif kind is str:
            found += TEXTS
        elif kind is bool:
            found += ["maybe", "True", "1"]
        elif get_origin(kind) is Literal:
            found += [*map(str, get_args(kind)), "", "x" * 10_000]
        elif get_origin(kind) in (tuple, list, dict):
            found += ["['']", "['\\u0000', 'a']", "{'a' = nan}", "{'a' = 1e300}", "[" + "'a'," * 1000 + "]"]
    return found


def settings() -> Iterator[tuple[Key, str]]:
    for key in all_keys():
        if "[]" not in key.name:
            yield from ((key, value) for value in dict.fromkeys(extremes(key)))


def overrides(key: Key, value: str) -> list[str]:
    """The key's override, and its data source's where it has one."""
    source = [f"data.source={key.source}"] if key.source and key.name != "data.source" else []
    return [*source, f"{key.name}={value}"]


def test_every_key_at_its_extremes_is_taken_or_refused_in_a_few_short_lines() -> None:
    tried = list(settings())
    assert len(tried) > 1500
    for key, value in tried:
        try:
            load_config(EXAMPLE if key.source in (None, "jsonl") else None, overrides(key, value))
        except ValueError as error:
            lines = str(error).splitlines()
            assert 0 < len(lines) <= 21, (key.name, value[:50], lines[:3])
            assert max(map(len, lines)) < 1000, (key.name, value[:50])


def test_what_is_taken_can_be_planned_for_or_is_refused_in_one_line(zygote: Zygote) -> None:
    """The extremes that are within the schema, some of them every time."""
    rng = random.Random("extremes")
    for key, value in rng.sample(list(settings()), 300):
        if key.source not in (None, "jsonl") or "\0" in value:  # no argument can have that
            continue
        try:
            load_config(EXAMPLE, overrides(key, value))
        except ValueError:
            continue
        sets = [part for override in overrides(key, value) for part in ("--set", override)]
        check(zygote.rankone("plan", EXAMPLE, *sets, seconds=60), (key.name, value[:50]))
