"""The one exception that a user is meant to read, and what it says of packages that are missing."""


class ReviewriskError(Exception):
    """Something the user can mend. The message says what is wrong, where, and what to do; it is shown without a
    traceback.
    """


def install_extra(name: str) -> str:
    """What to do where the packages of an extra (setup.py) are missing, as the end of a message."""
    return f"install the extra {name!r} (docs/operations.md, Parts of the install)"
