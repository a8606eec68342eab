"""One base for all that a user can mend."""


class UserError(Exception):
    """Its message says in one line what is wrong and what to do; a traceback would add nothing."""
