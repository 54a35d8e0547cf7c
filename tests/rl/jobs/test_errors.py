"""Messages about a cluster that does not answer."""

import pytest
import requests

from rl.jobs.errors import ClusterError, translated_errors


@pytest.mark.parametrize(
    ("has_answered", "says"),
    [(False, "start one with `rankone up`"), (True, "is gone; when it is back, `rankone status")],
)
def test_a_head_that_has_answered_is_gone_and_another_was_never_there(has_answered: bool, says: str) -> None:
    with (
        pytest.raises(ClusterError, match=r"http://127\.0\.0\.1:1") as raised,
        translated_errors("http://127.0.0.1:1", "run-1", has_answered=has_answered),
    ):
        requests.get("http://127.0.0.1:1", timeout=5)
    assert says in str(raised.value)
