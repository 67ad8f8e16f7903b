"""What all runtime-spec objects share: the struct base and the integer types."""

from typing import Annotated, Final

import msgspec

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
UInt16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
UInt32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
UInt64 = Annotated[int, msgspec.Meta(ge=0)]  # msgspec cannot bound above int64: see `Object.__post_init__`
Strings = tuple[str, ...]

UINT64_MAX: Final = 2**64 - 1


class AbsentInt(int):
    """A number that the document did not have.

    msgspec leaves a field out when its value *is* the default, so a zero of a
    type of its own keeps "absent" and "0" apart while both count as 0.
    """


ABSENT: Final = AbsentInt(0)


class Object(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Base of all runtime-spec objects: fields in snake_case, JSON names in camelCase, None means absent."""


def check_uint64(**values: int | None) -> None:
    """Refuse what does not fit the kernel's 64 bits; msgspec adds the path to the ValueError."""
    for name, value in values.items():
        if value is not None and value > UINT64_MAX:
            raise ValueError(f"{name}: Expected `int` <= {UINT64_MAX}")
