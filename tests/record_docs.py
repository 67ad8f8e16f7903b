"""Write the reference pages of docs/ anew, after a change that is meant: `python -m tests.record_docs`."""

from tests.reference import DOCS, PAGES


def main() -> None:
    """Write them all."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
