"""The entry of the command `synaptic-pruning` (and of `python -m synaptic_pruning`)."""

import sys


def main() -> None:
    """Run the command line, or say which extra it needs."""
    try:
        from synaptic_pruning.cli import app

        app()
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name == "synaptic_pruning":
            raise
        print(
            f"synaptic-pruning: the package {name!r} is missing; install the command with "
            "pip install 'synaptic-pruning[study]'.",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
