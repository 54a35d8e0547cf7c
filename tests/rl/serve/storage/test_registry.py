"""A server's memory, in SQLite and in PostgreSQL alike."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers import postgres

from rl.serve.storage.database import Checkpoint, ClientSession, Sampler, TrainingRun, open_database
from rl.serve.storage.registry import Registry, expiry, now
from rl.wire.tinker_path import TinkerPath

DATABASES = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.skipif(not postgres.available(), reason="PostgreSQL is not here")),
]


@pytest.fixture(params=DATABASES, scope="module")
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if request.param == "sqlite":
        engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('db') / 'serve.sqlite3'}")
        yield Registry(engine)
        engine.dispose()
        return
    with postgres.postgres() as url:
        engine = open_database(url)
        yield Registry(engine)
        engine.dispose()


def begin(registry: Registry, user: str, run: str, **more: Any) -> str:
    session = ClientSession(
        id=f"s-{run}", user=user, created=now(), tags=["a"], user_metadata={"k": 1}, display_name=None, end_reason=None
    )
    registry.add(session)
    registry.add(
        TrainingRun(
            id=run,
            user=user,
            session_id=session.id,
            base_model="m",
            rank=4,
            train_unembed=True,
            train_mlp=True,
            train_attn=False,
            created=now(),
            last_request=now(),
            user_metadata=None,
            **more,
        )
    )
    return run


def checkpoint(run: str, user: str, name: str, ttl: int | None = None, kind: str = "weights") -> Checkpoint:
    return Checkpoint(
        run_id=run,
        user=user,
        kind=kind,
        name=name,
        created=now(),
        expires=expiry(ttl),
        public=False,
        size_bytes=2**40,
        sha256="0" * 64,
        location=f"{run}/{name}",
        user_metadata={"note": "ä"},
    )


def path(run: str, name: str) -> TinkerPath:
    return TinkerPath(run, "weights", name)


def test_a_key_is_known_by_its_hash_alone(registry: Registry) -> None:
    registry.add_key("tml-secret", "ada")
    assert registry.user_of("tml-secret") == "ada"
    assert registry.user_of("tml-other") is None
    assert registry.has_keys()


def test_each_user_sees_own_rows(registry: Registry) -> None:
    run = begin(registry, "ada", "r-own")
    registry.add(Sampler(id="r-own:sample:0", user="ada", session_id="s-r-own", base_model="m", model_path=None))
    assert registry.run("ada", run) is not None
    assert registry.run("bob", run) is None
    assert registry.sampler("bob", "r-own:sample:0") is None
    assert registry.session("bob", "s-r-own") is None
    assert registry.members("s-r-own") == ([run], ["r-own:sample:0"])
    assert [row.id for row in registry.runs("ada", 10, 0).rows] == [run]
    assert registry.runs("bob", 10, 0).total == 0
    row = registry.run("ada", run)
    assert row is not None
    assert row.created.utcoffset() == timedelta(0)  # a time keeps its zone


def test_a_checkpoints_name_is_taken_once(registry: Registry) -> None:
    run = begin(registry, "ada", "r-name")
    assert registry.add_checkpoint(checkpoint(run, "ada", "a"), overwrite=False) is None
    with pytest.raises(ValueError, match="there already"):
        registry.add_checkpoint(checkpoint(run, "ada", "a"), overwrite=False)
    replaced = registry.add_checkpoint(checkpoint(run, "ada", "a"), overwrite=True)
    assert replaced is not None
    registry.add_checkpoint(checkpoint(run, "ada", "a", kind="sampler_weights"), overwrite=False)  # another thing
    found = registry.checkpoint("ada", path(run, "a"))
    assert found is not None
    assert (found.size_bytes, found.user_metadata) == (2**40, {"note": "ä"})


def test_of_writers_of_one_name_one_wins(registry: Registry) -> None:
    run = begin(registry, "ada", "r-race")
    outcomes: list[str] = []

    def write() -> None:
        try:
            registry.add_checkpoint(checkpoint(run, "ada", "x"), overwrite=False)
            outcomes.append("taken")
        except Exception as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ValueError"] * 5 + ["taken"]
    assert registry.checkpoints("ada", run).total == 1


def test_what_is_over_is_not_found_and_goes(registry: Registry) -> None:
    run = begin(registry, "ada", "r-ttl")
    registry.add_checkpoint(checkpoint(run, "ada", "over", ttl=-1), overwrite=False)
    registry.add_checkpoint(checkpoint(run, "ada", "kept", ttl=3600), overwrite=False)
    assert registry.checkpoint("ada", path(run, "over")) is None
    assert [row.name for row in registry.checkpoints("ada", run).rows] == ["kept"]
    assert "over" in [row.name for row in registry.remove_expired()]
    assert registry.newest(run, "weights").name == "kept"  # type: ignore[union-attr]
    assert registry.change_checkpoint("ada", path(run, "kept"), expires=None)
    assert not registry.change_checkpoint("bob", path(run, "kept"), expires=None)


def test_published_weights_are_read_by_others_and_changed_by_none(registry: Registry) -> None:
    run = begin(registry, "ada", "r-public")
    registry.add_checkpoint(checkpoint(run, "ada", "p"), overwrite=False)
    assert registry.checkpoint("bob", path(run, "p")) is None
    registry.change_checkpoint("ada", path(run, "p"), public=True)
    assert registry.checkpoint("bob", path(run, "p")) is not None
    assert registry.remove_checkpoint("bob", path(run, "p")) is None
    assert registry.remove_checkpoint("ada", path(run, "p")) is not None


def test_tokens_add_up(registry: Registry) -> None:
    for _ in range(2):
        registry.count_tokens({("eve", "sampled"): 2**31, ("eve", "trained"): 5})
    assert {row.kind: row.tokens for row in registry.usage("eve")} == {"sampled": 2**32, "trained": 10}


def test_a_database_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/none/x.sqlite3", "nonsense", "postgresql+psycopg://rankone@127.0.0.1:1/x"):
        with pytest.raises(ValueError, match="the database cannot be opened") as refused:
            open_database(url)
        assert "\n" not in str(refused.value)
