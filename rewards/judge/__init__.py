"""A language model as a judge: the message that asks it (`template`), and the score in its answer (`verdict`)."""
