"""Define the exception of all readers of data."""


class DataError(ValueError):
    """The data cannot be used as asked; the message is one sentence that names the fix."""
