"""Pages of Markdown as tests look at them."""

from __future__ import annotations

from collections.abc import Iterable


def unwrapped(lines: Iterable[str]) -> list[str]:
    """The lines with each paragraph and each item in one line again."""
    joined: list[str] = []
    is_code = goes_on = False
    for line in lines:
        is_code ^= line.startswith("```")
        is_prose = not is_code and bool(line) and not line.startswith(("|", "#", "```"))
        if is_prose and goes_on and not line.startswith(("* ", "- ")):
            joined[-1] = f"{joined[-1]} {line.strip()}"
        else:
            joined.append(line)
        goes_on = is_prose
    return joined
