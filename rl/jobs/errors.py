"""Ray's errors about a cluster, as ours, of one line."""

from collections.abc import Generator
from contextlib import contextmanager

from rl.cluster.token import refusal


class ClusterError(RuntimeError):
    """The cluster does not answer, or not as expected."""


@contextmanager
def translated_errors(address: str, submission_id: str = "", *, has_answered: bool = False) -> Generator[None]:
    """Translate what Ray's job client raises inside the block, of a head that has answered before, or has not yet.

    Raises:
        ValueError: the token is missing or wrong, or no job has that id.
        ClusterError: nothing answers, or it answers with an error.
    """
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise ValueError(refusal(address)) from None
    except (ConnectionError, requests.RequestException) as error:
        if has_answered:
            raise _gone(address, submission_id) from None
        raise ClusterError(
            f"no Ray cluster answers at {address}; start one with `rankone up`, or give --address"
        ) from error
    except RuntimeError as error:
        message = str(error)
        if "WebSocket" in message:
            raise _gone(address, submission_id) from None
        if "does not exist" in message:
            raise ValueError(f"{address} has no job {submission_id}; `rankone jobs` lists them") from None
        raise ClusterError(f"{address} answered: {message.strip().splitlines()[-1]}") from error


def _gone(address: str, submission_id: str) -> ClusterError:
    return ClusterError(
        f"the head at {address} is gone; when it is back, `rankone status {submission_id}` knows what became of the run"
    )
