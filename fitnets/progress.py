"""Progress of long work outside of training: a live bar in a terminal, one line elsewhere."""

import sys
from collections.abc import Iterator


def tracked(items: range, what: str, quiet: bool = False) -> Iterator[int]:
    """The items, with `what` shown while they are worked on; nothing where `quiet` (short work)."""
    if quiet:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"{what}, once", file=sys.stderr)
        yield from items
        return
    yield from track(items, what, console=console, transient=True)
