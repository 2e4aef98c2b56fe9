"""The errors a user can cause.

Every message is one line that states the value, the limit and the remedy; the command line prints it
and exits with code 2. `UserError` is a `ValueError`, so that Python callers need no new type, and
`assert` is kept for what only a bug in this package can cause.
"""

__all__ = ["UserError"]


class UserError(ValueError):
    """Something the user gave is wrong: the message says what, what is allowed, and what to do."""
