"""What can go wrong with an item or with the machine; the item runner turns each into a class of the ledger."""


class BadInput(ValueError):
    """The item itself is at fault (corrupt, empty, too large). Trying again cannot help, so it is tried once."""


class EmptyOutput(RuntimeError):
    """A plug-in returned nothing usable (no surface, NaN) without raising."""


class Unavailable(RuntimeError):
    """A plug-in cannot run here. The message says what is missing and what to install or fetch.

    The environment is at fault: the items that need the plug-in are *blocked*, and none is charged an attempt.
    """
