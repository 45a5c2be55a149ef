"""The failures that a command explains in a sentence, with their exit status."""


class CannotStart(Exception):  # noqa: N818 -- the name is the message
    """An error that the user can correct; the argument is a sentence."""

    status = 1
    """The command's exit status."""


class CannotWrite(Exception):  # noqa: N818 -- the name is the message
    """The results cannot be printed; the argument is a sentence."""

    status = 2
    """The command's exit status."""
