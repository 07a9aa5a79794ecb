"""The one exception that a user is meant to read."""


class ReviewriskError(Exception):
    """Something the user can mend. The message says what is wrong, where, and what to do; it is shown without a traceback."""
