"""Configuration that administrators wrote: small files and directories of them, read and never changed.

Links are followed, as configuration is often linked to its place; what they lead to must be there, plain and small.
"""

import os
import stat

from onggi.base.errors import FailedPrecondition, InvalidArgument

from .oserrors import explain_oserror


class ConfigFiles:
    """Reads configuration."""

    __slots__ = ()

    def read(self, path: str, max_bytes: int) -> bytes | None:
        """Read a file whole; None if there is none. Raises if it is no regular file, too large or not for us."""
        try:
            # O_NONBLOCK: what lies there may be a FIFO without a writer.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(path):
                raise FailedPrecondition(f"cannot read {path}: it is a link to nothing; remove it or mend it") from None
            return None
        except OSError as error:
            raise explain_oserror(error, "read", path) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FailedPrecondition(f"cannot read {path}: it is not a regular file; move it away")
        with open(fd, "rb") as file:
            try:
                data = file.read(max_bytes + 1)
            except OSError as error:
                raise explain_oserror(error, "read", path) from None
        if len(data) > max_bytes:
            raise InvalidArgument(f"{path} is larger than the {max_bytes >> 10} KiB that it may have; shorten it")
        return data

    def names(self, path: str, max_names: int) -> tuple[str, ...] | None:
        """Give the names of the regular files in a directory, sorted; None if there is none, or it is not for us."""
        names: list[str] = []
        try:
            with os.scandir(path) as entries:
                for seen, entry in enumerate(entries):
                    if seen >= max_names:
                        raise InvalidArgument(
                            f"{path} has more than {max_names} files; remove what is not needed there"
                        )
                    if entry.is_file():
                        names.append(entry.name)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except OSError as error:
            raise explain_oserror(error, "look at", error.filename or path) from None
        return tuple(sorted(names))
