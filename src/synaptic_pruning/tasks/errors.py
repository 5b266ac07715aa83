"""What the readers of all tasks raise."""


class DataError(ValueError):
    """The data cannot be used as asked; the message is one sentence that names the fix."""
