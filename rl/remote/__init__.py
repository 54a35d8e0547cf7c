"""A server's learner and engines (`rankone serve`), as a run on this machine uses them."""
