"""Which error becomes which exit code: the command line's row of the one table that surfaces share."""

from onggi.base import errors
from onggi.host.launcher import LaunchFailed

USAGE = 125
FAILURE = 1

KINDS: dict[type[errors.OnggiError], int] = {
    errors.InvalidArgument: FAILURE,
    errors.NotFound: FAILURE,
    errors.Conflict: FAILURE,
    errors.FailedPrecondition: FAILURE,
    errors.PermissionDenied: FAILURE,
    errors.Unauthorized: FAILURE,
    errors.Unavailable: FAILURE,
    errors.NotSupported: FAILURE,
    errors.Corrupt: FAILURE,
    errors.Cancelled: 130,
}


def exit_code(error: errors.OnggiError, *, running: bool) -> int:
    """Give the exit code; for `run`, `start` and `exec` (`running`) failures of Onggi itself are 125."""
    if isinstance(error, LaunchFailed):
        return error.exit_code
    code = next((code for kind, code in KINDS.items() if isinstance(error, kind)), FAILURE)
    return USAGE if running and code == FAILURE else code
