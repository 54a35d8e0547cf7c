"""Objects that garbage collections leave alone for a while."""

import gc
import weakref

from rl.launch.frozen_heap import frozen_heap


class Knot:
    """An object that refers to itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_made_inside_is_collected_there_and_what_was_loaded_afterwards() -> None:
    loaded = Knot()
    of_loaded = weakref.ref(loaded)
    with frozen_heap():
        made = Knot()
        of_made = weakref.ref(made)
        del made, loaded
        gc.collect()
        assert of_made() is None
        assert of_loaded() is not None, "no collection looks at it"
    gc.collect()
    assert of_loaded() is None
