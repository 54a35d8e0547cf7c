"""Rewards for programs: they run in a sandbox, against tests that they cannot reach.

`code_tests` is the reward, and `cases` reads a data set's tests. A `sandbox` is a room made by `sandbox_init`, a
script of its own. Tests that call functions run in a second room: there `tester` asks `host`, beside the program,
over a `wire`.
"""
