"""The one exception for a user's mistake, and for work that must not be done."""


class Refused(Exception):
    """What came, what was needed, what to do; the command line prints the text alone and exits with 1."""
