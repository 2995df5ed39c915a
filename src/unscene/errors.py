"""The one exception that a user's mistake raises, so that the command line can answer in one sentence."""


class InputError(ValueError):
    """Unusable input: the message says what is wrong, where, and what to do about it.

    The command line prints the message on one line and exits with status 2; everything
    else that is raised is a defect of the library and keeps its traceback.
    """
