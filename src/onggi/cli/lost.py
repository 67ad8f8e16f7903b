"""What the stub becomes when onggid ended in the middle of a command."""

import sys


def main() -> None:
    """Say so. Whether the command was carried out cannot be known here, so it is not repeated."""
    sys.stderr.write(
        "onggi: onggid ended while it served this command, which may or may not have been carried out; "
        "look (onggi ps -a) before you repeat it\n"
    )
    sys.exit(125)
