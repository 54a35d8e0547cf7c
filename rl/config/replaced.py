"""Changed copies of settings, checked as if they had been read from a file."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

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
    # Members of a union are marked too, as in `constrained-int`; no key has such characters.
    names = [str(part) for part in detail["loc"] if not set(str(part)) & set("-[")]
    return ": ".join([*([".".join(names)] if names else []), message])
