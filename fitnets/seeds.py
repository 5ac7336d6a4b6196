"""Seeds for each purpose from one seed."""

import hashlib


def derive(seed: int, *words: object) -> int:
    """A seed of its own for each purpose, so that drawing more for one does not move another."""
    text = "/".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
