"""How keeping state fails: one error, whose message says what to change."""

from ops.errors import Rejected


class StateError(Rejected):
    """The data directory, the account, the programs or the data cannot be used."""

    code = "state.unusable"
