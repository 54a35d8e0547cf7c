"""Grading in processes that can be killed, with judges and reward models asked beside them.

`pool` is the `Grader` of a run. Its threads have a `lane` each, which owns a `worker_process`, the parent's side of
one `worker`; they exchange `messages`. A `panel` asks what is not computed here, and `merge` makes one reward of
both. `preflight` tries a reward before a run, `stream` grades a file, and `routed` sends each source of problems to
its grader.
"""
