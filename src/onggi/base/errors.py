"""The errors of Onggi: one tree, ten kinds.

    OnggiError
    ├── InvalidArgument      the request itself is wrong
    ├── NotFound             what it names is not here
    ├── Conflict             it is here already, or somebody holds it
    ├── FailedPrecondition   right request, wrong state
    ├── PermissionDenied     the kernel or a policy says no
    ├── Unauthorized         no or wrong credentials
    ├── Unavailable          not now: a peer, a network, a disk
    ├── NotSupported         this host or this version cannot
    ├── Corrupt              data is not what its name promised
    └── Cancelled            somebody stopped it

A kind decides the exit code, HTTP status and gRPC code, in one table of the
surface; the text is for people and is never matched on.
"""


class OnggiError(Exception):
    """Base of every error that Onggi raises on purpose; `str()` is one sentence for the user."""


class InvalidArgument(OnggiError):
    """The request itself is wrong: a flag, a file, a field."""


class NotFound(OnggiError):
    """No such container, image, volume, file."""


class Conflict(OnggiError):
    """The name is taken, or another command holds the object."""


class FailedPrecondition(OnggiError):
    """The object is in a state that does not allow this."""


class PermissionDenied(OnggiError):
    """The kernel or a policy refuses."""


class Unauthorized(OnggiError):
    """Credentials are missing or wrong."""


class Unavailable(OnggiError):
    """A peer, a network or a disk cannot serve this now; later it may."""


class NotSupported(OnggiError):
    """This host, or this version of Onggi, cannot do that."""


class Corrupt(OnggiError):
    """Stored or received data is not what its name promised."""


class Cancelled(OnggiError):
    """The work was stopped before its end."""
