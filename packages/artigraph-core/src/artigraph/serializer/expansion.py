"""How much memory data may take when it is read, by its own size.

Compressed data says little of that: a thousand bytes can hold a file of many gigabytes. What is
written is held against the same limit as what is read, so that all that was saved can be loaded.
"""

from typing import Final

from artigraph.errors import LimitError

MAX_EXPANSION: Final = 100
"""How many times its size data may take, in memory."""

ALWAYS_ALLOWED: Final = 1 << 30
"""As many bytes it may take in any case."""


def check_expansion(expanded: int, size: int) -> None:
    """Refuse data that takes far more memory than its size.

    Args:
        expanded: What it takes in memory, in bytes.
        size: What it takes now.

    Raises:
        LimitError: It is more than `ALWAYS_ALLOWED`, and more than `MAX_EXPANSION` times the size.
    """
    if not is_allowed(expanded, size):
        raise LimitError(
            "the data",
            f"its {size:,} bytes would take {expanded:,} in memory",
            f"{ALWAYS_ALLOWED:,}, or {MAX_EXPANSION} times the size",
            "Save it in parts, or choose a serializer that does not compress, such as Feather or"
            " IPC.",
        )


def is_allowed(expanded: int, size: int) -> bool:
    """Whether `check_expansion` lets it pass."""
    return expanded <= max(ALWAYS_ALLOWED, MAX_EXPANSION * size)


def size_allowing(expanded: int) -> int:
    """The least size with which data may take so much memory, both in bytes."""
    return 0 if expanded <= ALWAYS_ALLOWED else -(-expanded // MAX_EXPANSION)
