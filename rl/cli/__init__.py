"""The `rankone` command: every sub-command, and the one line that a mistake gets."""


def main() -> None:
    """Run the command. It is imported here, where it is called: most of what this package holds needs less."""
    from rl.cli.app import main as run

    run()
