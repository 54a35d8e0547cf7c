"""Sessions, runs, samplers, checkpoints and keys: what is asked of the database, in one transaction a call."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Engine, Select, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from rl.serve.storage.database import ApiKey, Base, Checkpoint, ClientSession, Leftover, Sampler, TrainingRun, Usage
from rl.wire.tinker_path import TinkerPath, checked_kind

Row = TypeVar("Row", bound=Base)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    rows: Sequence[Any]
    total: int


class Registry:
    """The server's memory. Every call is short, and blocks; what it returns is detached from the database."""

    def __init__(self, engine: Engine) -> None:
        self._open = sessionmaker(engine, expire_on_commit=False)

    def add(self, row: Base) -> None:
        """Remember a new row, or a newer one in place of that with the same key."""
        with self._open.begin() as session:
            session.merge(row)

    def user_of(self, key: str) -> str | None:
        """Return whose key it is."""
        with self._open() as session:
            row = session.get(ApiKey, sha256(key))
            return row and row.user

    def add_key(self, key: str, user: str) -> None:
        """Let a user in."""
        self.add(ApiKey(sha256=sha256(key), user=user, created=now()))

    def has_keys(self) -> bool:
        """Return True if anybody was let in yet."""
        with self._open() as session:
            return session.scalar(select(func.count()).select_from(ApiKey)) != 0

    def session(self, user: str, session_id: str) -> ClientSession | None:
        """Return a user's session."""
        return self._owned(ClientSession, user, session_id)

    def end_session(self, session_id: str, reason: str) -> None:
        """Note how a session ended."""
        with self._open.begin() as session:
            session.execute(update(ClientSession).where(ClientSession.id == session_id).values(end_reason=reason))

    def sessions(self, user: str, limit: int, offset: int) -> Page:
        """Return a user's sessions, the newest first."""
        query = select(ClientSession).where(ClientSession.user == user).order_by(ClientSession.created.desc())
        return self._page(query, limit, offset)

    def members(self, session_id: str) -> tuple[list[str], list[str]]:
        """Return the ids of a session's runs and of its samplers."""
        with self._open() as session:
            runs = session.scalars(select(TrainingRun.id).where(TrainingRun.session_id == session_id))
            samplers = session.scalars(select(Sampler.id).where(Sampler.session_id == session_id))
            return list(runs), list(samplers)

    def run(self, user: str, run_id: str) -> TrainingRun | None:
        """Return a user's run."""
        return self._owned(TrainingRun, user, run_id)

    def runs(self, user: str, limit: int, offset: int) -> Page:
        """Return a user's runs, those used last first."""
        query = select(TrainingRun).where(TrainingRun.user == user).order_by(TrainingRun.last_request.desc())
        return self._page(query, limit, offset)

    def touch(self, run_ids: Mapping[str, datetime]) -> None:
        """Note when runs were last used."""
        with self._open.begin() as session:
            for run_id, when in run_ids.items():
                session.execute(update(TrainingRun).where(TrainingRun.id == run_id).values(last_request=when))

    def sampler(self, user: str, sampler_id: str) -> Sampler | None:
        """Return a user's sampler."""
        return self._owned(Sampler, user, sampler_id)

    def lasting_sampler(self, sampler_id: str) -> Sampler | None:
        """Return a sampler, whoever's it is, if its session has not ended."""
        with self._open() as session:
            row = session.get(Sampler, sampler_id)
            owner = None if row is None else session.get(ClientSession, row.session_id)
            return None if owner is None or owner.end_reason is not None else row

    def checkpoint(self, user: str, path: TinkerPath) -> Checkpoint | None:
        """Return saved weights that a user may read: own ones, or another's that were published."""
        with self._open() as session:
            query = select(Checkpoint).where(_is(path), or_(Checkpoint.user == user, Checkpoint.public), _alive())
            return session.scalar(query)

    def checkpoint_by_id(self, number: int) -> Checkpoint | None:
        """Return saved weights by their number, whoever's they are."""
        with self._open() as session:
            return session.scalar(select(Checkpoint).where(Checkpoint.id == number, _alive()))

    def checkpoints(self, user: str, run_id: str | None = None, limit: int = 1000, offset: int = 0) -> Page:
        """Return a user's saved weights, the newest first."""
        query = select(Checkpoint).where(Checkpoint.user == user, _alive())
        if run_id is not None:
            query = query.where(Checkpoint.run_id == run_id)
        return self._page(query.order_by(Checkpoint.created.desc(), Checkpoint.id.desc()), limit, offset)

    def newest(self, run_id: str, kind: str) -> Checkpoint | None:
        """Return a run's newest saved weights of a kind."""
        with self._open() as session:
            query = select(Checkpoint).where(Checkpoint.run_id == run_id, Checkpoint.kind == kind, _alive())
            return session.scalar(query.order_by(Checkpoint.id.desc()).limit(1))

    def add_checkpoint(self, checkpoint: Checkpoint, *, overwrite: bool) -> Checkpoint | None:
        """Remember saved weights; return those whose name they took, if there were some.

        Raises:
            ValueError: the name is taken, and is not to be overwritten.
        """
        path = TinkerPath(checkpoint.run_id, checked_kind(checkpoint.kind), checkpoint.name)
        try:
            return self._replace_checkpoint(path, checkpoint, overwrite=overwrite)
        except IntegrityError:  # another writer of this name was first
            raise taken(path) from None

    def _replace_checkpoint(self, path: TinkerPath, checkpoint: Checkpoint, *, overwrite: bool) -> Checkpoint | None:
        with self._open.begin() as session:
            earlier = session.scalar(select(Checkpoint).where(_is(path)))
            if earlier is not None:
                if not overwrite and not _is_over(earlier):
                    raise taken(path)
                _discard(session, earlier)
                session.flush()
            session.add(checkpoint)
            session.execute(delete(Leftover).where(Leftover.location == checkpoint.location))
            return earlier

    def change_checkpoint(self, user: str, path: TinkerPath, **values: Any) -> bool:
        """Change saved weights of a user's own; return False if there are none of that path."""
        with self._open.begin() as session:
            changed = update(Checkpoint).where(_is(path), Checkpoint.user == user, _alive()).values(**values)
            return bool(session.execute(changed).rowcount)  # pyright: ignore[reportAttributeAccessIssue]

    def remove_checkpoint(self, user: str, path: TinkerPath) -> Checkpoint | None:
        """Forget saved weights of a user's own; return what they were."""
        with self._open.begin() as session:
            row = session.scalar(select(Checkpoint).where(_is(path), Checkpoint.user == user))
            if row is not None:
                _discard(session, row)
            return row

    def remove_expired(self) -> list[Checkpoint]:
        """Forget saved weights whose time is over; return what they were."""
        with self._open.begin() as session:
            rows = list(session.scalars(select(Checkpoint).where(Checkpoint.expires <= now())))
            for row in rows:
                _discard(session, row)
            return rows

    def add_leftover(self, location: str) -> None:
        """Remember where files are about to be written; `add_checkpoint` makes them a checkpoint's."""
        self.add(Leftover(location=location, since=now()))

    def remove_leftover(self, location: str) -> None:
        """Forget files that are gone."""
        with self._open.begin() as session:
            session.execute(delete(Leftover).where(Leftover.location == location))

    def leftovers(self, age_seconds: float) -> list[str]:
        """Return where files are that have been without a checkpoint for so long."""
        with self._open() as session:
            query = select(Leftover.location).where(Leftover.since <= now() - timedelta(seconds=age_seconds))
            return list(session.scalars(query))

    def count_tokens(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add tokens, by user and kind, to those of today."""
        day = now().date().isoformat()
        with self._open.begin() as session:
            for (user, kind), tokens in counts.items():
                row = session.get(Usage, (user, day, kind)) or Usage(user=user, day=day, kind=kind, tokens=0)
                row.tokens += tokens
                session.add(row)

    def usage(self, user: str) -> list[Usage]:
        """Return a user's tokens by day and kind."""
        with self._open() as session:
            return list(session.scalars(select(Usage).where(Usage.user == user).order_by(Usage.day)))

    def _owned(self, table: type[Row], user: str, key: str) -> Row | None:
        with self._open() as session:
            row: Any = session.get(table, key)
            return row if row is not None and row.user == user else None

    def _page(self, query: Select[Any], limit: int, offset: int) -> Page:
        with self._open() as session:
            total = session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
            return Page(list(session.scalars(query.limit(limit).offset(offset))), total)


def taken(path: TinkerPath) -> ValueError:
    """Return the refusal of a name that is taken."""
    remedy = "overwrite=True" if path.kind == "weights" else "delete that one"
    return ValueError(f"{path} is there already: choose another name, or {remedy}")


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def expiry(ttl_seconds: int | None) -> datetime | None:
    """Return when something ends that has so long to live; None is never."""
    return None if ttl_seconds is None else now() + timedelta(seconds=ttl_seconds)


def sha256(text: str) -> str:
    """Return the hash under which a key is remembered."""
    return hashlib.sha256(text.encode()).hexdigest()


def _is(path: TinkerPath) -> Any:
    return (Checkpoint.run_id == path.run) & (Checkpoint.kind == path.kind) & (Checkpoint.name == path.name)


def _discard(session: Session, row: Checkpoint) -> None:
    """Forget a checkpoint, and remember its files until they are gone."""
    session.delete(row)
    session.merge(Leftover(location=row.location, since=now()))


def _alive() -> Any:
    return or_(Checkpoint.expires.is_(None), Checkpoint.expires > now())


def _is_over(checkpoint: Checkpoint) -> bool:
    return checkpoint.expires is not None and checkpoint.expires <= now()
