"""The memory of a server that is started anew: SQLite in a file of its own, or PostgreSQL."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Engine, ForeignKey, String, UniqueConstraint, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from lora.messages import single_line
from rl.serve.config import ServeConfig

DATABASE = "serve.sqlite3"
"""In a server's directory, if the configuration names no other."""


class UtcDateTime(TypeDecorator[datetime]):
    """A time, with its zone also where the database keeps none (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    """The tables."""

    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012


class ApiKey(Base):
    """A key, of which only a hash is kept."""

    __tablename__ = "api_keys"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column(String(100))
    created: Mapped[datetime]


class ClientSession(Base):
    """A client's session, under which its models and samplers are named."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column(String(100), index=True)
    created: Mapped[datetime]
    tags: Mapped[list[str]]
    user_metadata: Mapped[dict[str, Any] | None]
    display_name: Mapped[str | None] = mapped_column(String(500))
    end_reason: Mapped[str | None] = mapped_column(String(100))


class TrainingRun(Base):
    """A model that was trained, which may be gone from the learner."""

    __tablename__ = "training_runs"

    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    user: Mapped[str] = mapped_column(String(100), index=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id"))
    base_model: Mapped[str] = mapped_column(String(500))
    rank: Mapped[int]
    train_unembed: Mapped[bool]
    train_mlp: Mapped[bool]
    train_attn: Mapped[bool]
    created: Mapped[datetime]
    last_request: Mapped[datetime]
    user_metadata: Mapped[dict[str, Any] | None]


class Sampler(Base):
    """A sampling session; one of an unnamed save has no path, and ends with its session."""

    __tablename__ = "samplers"

    id: Mapped[str] = mapped_column(String(160), primary_key=True)
    user: Mapped[str] = mapped_column(String(100), index=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id"), index=True)
    base_model: Mapped[str] = mapped_column(String(500))
    model_path: Mapped[str | None] = mapped_column(String(500))


class Checkpoint(Base):
    """Saved weights. The row is written after the files, and deleted before them."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("run_id", "kind", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("training_runs.id"), index=True)
    user: Mapped[str] = mapped_column(String(100), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(255))
    created: Mapped[datetime]
    expires: Mapped[datetime | None]
    public: Mapped[bool] = mapped_column(default=False)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    location: Mapped[str] = mapped_column(String(500))
    """The directory of its files, below the server's."""
    user_metadata: Mapped[dict[str, Any] | None]


class Leftover(Base):
    """Files that no checkpoint has: not yet, while they are written, or no more, until they are deleted."""

    __tablename__ = "leftovers"

    location: Mapped[str] = mapped_column(String(500), primary_key=True)
    since: Mapped[datetime]


class Usage(Base):
    """Tokens of a user on a day."""

    __tablename__ = "usage"

    user: Mapped[str] = mapped_column(String(100), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    tokens: Mapped[int] = mapped_column(BigInteger, default=0)


def database_url(config: ServeConfig, out: Path) -> str:
    """Return the URL of a server's database."""
    return config.database or f"sqlite:///{out / DATABASE}"


def open_database(url: str) -> Engine:
    """Connect, and make the tables that are not there.

    Raises:
        ValueError: there is no such database, or it cannot be written.
    """
    try:
        address = make_url(url)
        engine = create_engine(address, pool_pre_ping=True)
        if address.get_backend_name() == "sqlite":
            event.listen(engine, "connect", _configure_sqlite)
        Base.metadata.create_all(engine)
    except (ArgumentError, SQLAlchemyError, ImportError, OSError) as error:
        hint = "give a URL such as sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        raise ValueError(f"the database cannot be opened ({single_line(error, 200)}): {hint}") from error
    return engine


def _configure_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for setting in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()
