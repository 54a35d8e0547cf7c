"""`python -m rl.cli` is the command `rankone`."""

from rl.cli.app import main

main()
