"""The configuration as text: what is written is read back, and what is wrong is said in one line."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.config import RunConfig
from rl.settings.keys import all_keys
from rl.settings.toml import dump_config, load_config

ROOT = Path(__file__).parents[3]


def load_text(directory: Path, text: str, *overrides: str) -> RunConfig:
    path = directory / "run.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def complaint(directory: Path, text: str, *overrides: str) -> str:
    """Return the message about a bad configuration, its file called `run.toml`."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the callers look at the message)
        load_text(directory, text, *overrides)
    return str(caught.value).replace(str(directory / "run.toml"), "run.toml")


# --- both ways ---

texts = st.text(max_size=12).filter(lambda text: text != "none")
counts = st.integers(1, 10**6)
scalars = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts
sources = st.one_of(
    st.fixed_dictionaries({"source": st.just("addition")}, optional={"digits": st.integers(1, 9), "num_train": counts}),
    st.fixed_dictionaries(
        {"source": st.just("jsonl"), "train": texts},
        optional={"held_out": st.none() | texts, "question": texts, "answer_after": st.none() | texts.filter(bool)},
    ),
    st.fixed_dictionaries({"source": st.just("gsm8k"), "path": texts}),
    st.fixed_dictionaries({"source": st.just("math"), "train": texts}, optional={"num_held_out": counts}),
    st.fixed_dictionaries(
        {"source": st.just("hub"), "path": texts}, optional={"held_out_split": st.none() | texts, "name": texts}
    ),
    st.fixed_dictionaries(
        {"source": st.just("reasoning_gym"), "task": texts},
        optional={"options": st.dictionaries(texts, scalars, max_size=3)},
    ),
)
shots = st.fixed_dictionaries({"question": texts, "answer": texts})
runs: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"data": sources},
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "num_steps": counts,
        "tensorboard": st.booleans(),
        "prompt": st.fixed_dictionaries(
            {},
            optional={
                "system": st.none() | texts,
                "suffix": texts,
                "shots": st.lists(shots, max_size=3),
                "chat_template": st.booleans(),
                "template_options": st.dictionaries(texts, scalars, max_size=3),
            },
        ),
        "lora": st.fixed_dictionaries(
            {}, optional={"rank": st.integers(1, 8), "targets": st.lists(texts, min_size=1, max_size=3)}
        ),
        "learner": st.fixed_dictionaries(
            {}, optional={"lr": st.floats(1e-30, 1), "max_grad_norm": st.none() | st.floats(1e-3, 1e3)}
        ),
        "rollout": st.fixed_dictionaries({}, optional={"enforce_eager": st.none() | st.booleans()}),
        "reward": st.fixed_dictionaries(
            {},
            optional={
                "terms": st.lists(st.fixed_dictionaries({"function": texts, "weight": st.floats(-9, 9)}), max_size=3)
            },
        ),
    },
)


@given(table=runs)
def test_a_written_configuration_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, Any]
) -> None:
    config = RunConfig.model_validate(table)
    assert load_text(tmp_path_factory.getbasetemp(), dump_config(config)) == config


def test_no_value_is_written_only_where_it_must_be() -> None:
    table = {"learner": {"max_grad_norm": None}, "prompt": {"system": None}}
    text = dump_config(RunConfig.model_validate(table))
    assert 'max_grad_norm = "none"' in text
    assert "system" not in text
    with pytest.raises(ValueError, match=r'prompt\.system cannot be the text "none"'):
        dump_config(RunConfig.model_validate({"prompt": {"system": "none"}}))


def test_the_defaults_need_no_file() -> None:
    assert load_config(None) == RunConfig.model_validate({})


RUNS = sorted(path for path in (ROOT / "examples").glob("*.toml") if not path.name.startswith("sweep-"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_the_examples_load(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert load_text(tmp_path, dump_config(config)) == config


# --- overrides ---


def test_overrides_change_the_file_in_their_order(tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        'num_steps = 3\n[lora]\nrank = 2\n[prompt]\nsystem = "Add."',
        "lora.rank=4",
        "lora.rank = 8",
        "sampling.temperature=.5",
        "learner.lr=1e-4",
        "learner.max_grad_norm=none",
        "prompt.system=none",
        "prompt.suffix= Think = hard.",
        "tensorboard=false",
        'sampling.stop=["a", "b"]',
        "data={source='jsonl', train='x.jsonl'}",
        "data.num_held_out=7",
    )
    assert (config.num_steps, config.lora.rank, config.tensorboard) == (3, 8, False)
    assert (config.sampling.temperature, config.sampling.stop) == (0.5, ("a", "b"))
    assert (config.learner.lr, config.learner.max_grad_norm) == (1e-4, None)
    assert (config.prompt.system, config.prompt.suffix) == (None, " Think = hard.")
    assert vars(config.data)["num_held_out"] == 7


def test_what_looks_like_a_number_may_be_text(tmp_path: Path) -> None:
    config = load_text(tmp_path, "", "name=7", "prompt.suffix=2024-01-01", "prompt.system='007'")
    assert (config.name, config.prompt.suffix, config.prompt.system) == ("7", "2024-01-01", "007")


def test_a_data_table_without_a_source_is_the_default_one(tmp_path: Path) -> None:
    config = load_text(tmp_path, "[data]\ndigits = 3")
    assert vars(config.data)["digits"] == 3
    assert load_text(tmp_path, "", "data.digits=3") == config


# --- complaints ---


@pytest.mark.parametrize(
    ("override", "said"),
    [
        # names
        ("learner.rank=4", "unknown key learner.rank; did you mean lora.rank?"),
        ("rank=4", "unknown key rank; did you mean lora.rank?"),
        ("lora.ranks=4", "unknown key lora.ranks; did you mean lora.rank?"),
        ("lerner.lr=1", "unknown key lerner.lr; did you mean learner.lr?"),
        ("optimizer.learning_rate=1", "unknown key optimizer.learning_rate; did you mean learner.lr?"),
        ("temperature=1", "unknown key temperature; did you mean evaluate.temperature or sampling.temperature?"),
        ("steps=4", "unknown key steps; did you mean num_steps?"),
        (
            "model.zzz=4",
            "unknown key model.zzz; the keys here are model.name, model.dtype, model.max_length, model.head_dtype, model.quantization",
        ),
        ("zzz.yyy=4", "unknown key zzz.yyy; rankone has no such table"),
        ("data.digit=3", "unknown key data.digit; did you mean data.digits?"),
        (
            "data.train=x",
            'unknown key data.train; it belongs to data.source = "jsonl" or "math", and the source here is "addition"',
        ),
        # types and ranges
        ("seed=x", 'seed must be a whole number, and is "x"'),
        ("seed=1.5", "seed must be a whole number, and is 1.5"),
        ("seed=[1]", "seed must be a whole number, and is [1]"),
        ("lora.rank=true", 'lora.rank must be a whole number, and is "true"'),
        ("tensorboard=maybe", 'tensorboard must be true or false, and is "maybe"'),
        ("learner.lr=fast", 'learner.lr must be a number, and is "fast"'),
        ("learner.lr=inf", "learner.lr must be a finite number, and is Infinity"),
        ("reward.deadline_s=1e9", "reward.deadline_s must be above 0 and at most 86400, and is 1000000000.0"),
        ("reward.terms=[{function='f', weight=nan}]", "reward.terms[0].weight must be a finite number, and is NaN"),
        (
            "placement.learner_resources={a=0}",
            "placement.learner_resources.a must be at least 0.0001, and is 0",
        ),
        (
            "prompt.template_options={a=inf}",
            "prompt.template_options.a must be true or false or a finite number or text, and is Infinity",
        ),
        (
            "sampling.temperature=1e-9",
            "a temperature below 0.01 overflows; choose 0, which is greedy, or at least 0.01",
        ),
        ("sampling.stop=['']", 'sampling.stop[0] must be text that is not empty, and is ""'),
        ("name=" + "x" * 101, 'name must be text of at most 100 letters, and is "' + "x" * 56 + "..."),
        ("problems_per_step=1000000000", "problems_per_step must be at least 1 and at most 65536, and is 1000000000"),
        ("seed=-1", "seed must be at least 0 and below 4294967296, and is -1"),
        ("learner.lr=nan", "learner.lr must be a finite number, and is NaN"),
        ("prompt.shots=3", 'prompt.shots must be a list, such as ["a", "b"], and is 3'),
        ("sampling.stop=a", 'sampling.stop must be a list, such as ["a", "b"], and is "a"'),
        ("lora=3", "lora must be a table, and is 3"),
        ("data=3", "data must be a table, and is 3"),
        ("lora.rank=0", "lora.rank must be at least 1 and at most 65536, and is 0"),
        ("data.digits=12", "data.digits must be at least 1 and at most 9, and is 12"),
        ("rollout.gpu_memory_fraction=2", "rollout.gpu_memory_fraction must be above 0 and at most 1, and is 2"),
        ("model.dtype=int4", 'model.dtype must be "auto", "bfloat16" or "float32", and is "int4"'),
        ("name=!", 'name must be text of the form ^[A-Za-z0-9][A-Za-z0-9._-]*$, and is "!"'),
        (
            "data.source=csv",
            'data.source must be "addition" or "jsonl" or "gsm8k" or "math" or "hub" or "reasoning_gym" or "verifiers", and is "csv"',
        ),
        (
            "data={source='reasoning_gym', task='x', options={a=[1]}}",
            "data.options.a must be a whole number or a number or text or true or false, and is [1]",
        ),
        (
            "data={source='hub', path='x', answer_after=''}",
            'data.answer_after must be text that is not empty, and is ""',
        ),
        ("prompt.shots=[{question='1'}]", "prompt.shots[0].answer is missing; it has no default"),
        (
            "lora.rank=16",
            "rank 16 is above 8, more than RL can fill; choose 1 to 8, or set lora.allow_large_rank = true for a study",
        ),
    ],
)
def test_a_wrong_override_is_one_clear_line(tmp_path: Path, override: str, said: str) -> None:
    assert complaint(tmp_path, "", override) == f"--set: {said}"


def test_each_problem_has_its_line_and_place(tmp_path: Path) -> None:
    text = 'steps = 3\n[data]\nsource = "jsonl"\n[[prompt.shots]]\nquestion = 1\nanswr = "2"'
    assert complaint(tmp_path, text, "seed=x").splitlines() == [
        '--set: seed must be a whole number, and is "x"',
        'run.toml: data.train is missing; data.source = "jsonl" needs it',
        "run.toml: prompt.shots[0].question must be text, and is 1",
        "run.toml: prompt.shots[0].answer is missing; it has no default",
        "run.toml: unknown key prompt.shots[0].answr; did you mean prompt.shots[].answer?",
        "run.toml: unknown key steps; did you mean num_steps?",
    ]


def test_keys_of_another_source_are_not_dropped(tmp_path: Path) -> None:
    said = complaint(tmp_path, "[data]\ndigits = 2", "data.source=jsonl", "data.train=x")
    assert (
        said
        == 'run.toml: unknown key data.digits; it belongs to data.source = "addition", and the source here is "jsonl"'
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = 1\nnum_steps = \n", "run.toml:2: not TOML: Invalid value at column 13"),
        ("seed = 1\nseed = 2\n", "run.toml:2: not TOML: Cannot overwrite a value at column 9"),
        ("name = 'x", 'run.toml: not TOML: Expected "\'" (at end of document)'),
    ],
)
def test_a_file_that_is_not_toml_names_the_line(tmp_path: Path, text: str, said: str) -> None:
    assert complaint(tmp_path, text) == said


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no configuration file '.*no\.toml'"):
        load_config(tmp_path / "no.toml")
    with pytest.raises(ValueError, match="cannot be read: it is a directory, not a file"):
        load_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ValueError, match=r"latin.toml is not a TOML file: it is not UTF-8 text"):
        load_config(tmp_path / "latin.toml")


@pytest.mark.parametrize("override", ["foo", "=3", "a..b=3", ".=3", ""])
def test_an_override_is_key_equals_value(tmp_path: Path, override: str) -> None:
    assert complaint(tmp_path, "", override) == f"--set takes KEY=VALUE, such as lora.rank=4, and got {override!r}"


def test_an_override_cannot_reach_into_a_value(tmp_path: Path) -> None:
    assert complaint(tmp_path, "seed = 3", "seed.x=3") == "--set seed.x=3: seed is a value, not a table of them"


def test_an_override_sets_one_key_only(tmp_path: Path) -> None:
    assert (
        complaint(tmp_path, "", "seed=3\nnum_steps=4") == '--set: seed must be a whole number, and is "3\\nnum_steps=4"'
    )


# --- what no person writes ---


def test_no_number_of_a_configuration_may_be_none() -> None:
    """Also of those that come later."""
    numbers = [key for key in all_keys() if float in key.types and "[]" not in key.name]
    assert len(numbers) > 20
    for key in numbers:
        for text in ("nan", "inf", "-inf"):
            needed = [f"data.source={key.source}"] if key.source else []
            with pytest.raises(ValueError, match=f"{key.name} must be .*, and is (NaN|-?Infinity)"):
                load_config(None, [*needed, f"{key.name}={text}"])


DEEP = {
    "lists": "x = " + "[" * 50_000,
    "tables": "x = " + "{a = " * 50_000,
    "lists that close": "[data]\nx = " + "[" * 200 + "]" * 200,
    "a key": ".".join(["a"] * 50_000) + " = 1",
    "a quoted key": ".".join(['"a"'] * 50_000) + " = 1",
    "a key in a table": "x = {" + ".".join(["a"] * 50_000) + " = 1}",
    "a table's name": "[" + ".".join(["a"] * 50_000) + "]",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_what_is_nested_too_deeply_is_one_line(tmp_path: Path, text: str) -> None:
    said = complaint(tmp_path, text)
    assert said.startswith("run.toml: ")
    assert "nested" in said or "names" in said
    assert len(said.splitlines()) == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "override", ["seed=" + "[" * 50_000, "seed=" + "{a=" * 50_000, ".".join(["a"] * 50_000) + "=1", "a" * 50_000 + "=1"]
)
def test_an_override_of_any_size_is_one_short_line(tmp_path: Path, override: str) -> None:
    said = complaint(tmp_path, "", override)
    assert said.startswith("--set")
    assert len(said.splitlines()) == 1
    assert len(said) < 1000


@pytest.mark.timeout(60)
@pytest.mark.parametrize("table", ["", "[learner]\n", "[nowhere]\n"])
def test_a_file_of_thousands_of_wrong_keys_is_told_quickly_and_in_part(tmp_path: Path, table: str) -> None:
    lines = complaint(tmp_path, table + "".join(f"k{i} = {i}\n" for i in range(30_000))).splitlines()
    assert (len(lines), lines[-1]) == (21, "and more")


def test_a_file_that_is_no_configuration_for_its_size_is_refused(tmp_path: Path) -> None:
    said = complaint(tmp_path, "".join(f"k{i} = {i}\n" for i in range(100_000)))
    assert said == "run.toml is larger than the 0.5 MiB that such a file may have"


@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in (("fifo", "a FIFO"), ("zero", "a device")):
        with pytest.raises(ValueError, match=f"cannot be read: it is {kind}, not a file"):
            load_config(tmp_path / name)


def test_a_mark_of_byte_order_and_another_systems_line_breaks_are_read(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes('\ufeffseed = 1\r\nname = "x"\r\n'.encode())
    assert load_config(tmp_path / "run.toml").seed == 1


def test_a_name_with_line_breaks_or_colours_is_shown_in_one_line(tmp_path: Path) -> None:
    assert complaint(tmp_path, '"a\\nb" = 1').startswith('run.toml: unknown key "a\\nb"; ')
    assert "\x1b" not in complaint(tmp_path, "", "\x1b[2J=1")
