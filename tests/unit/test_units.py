"""Sizes, durations and times are spelled as Docker and Go spell them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.base.units import (
    HOUR,
    MINUTE,
    SECOND,
    bytes_size,
    format_duration,
    format_time,
    human_duration,
    human_size,
    parse_duration,
    parse_size,
    parse_time,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("32", 32),
        ("32b", 32),
        ("32B", 32),
        ("32k", 32 * KIB),
        ("32K", 32 * KIB),
        ("32kb", 32 * KIB),
        ("32KiB", 32 * KIB),
        ("32m", 32 * MIB),
        ("1.5g", 3 * GIB // 2),
        ("0.3g", 322122547),
        ("32 mb", 32 * MIB),
        ("1t", 1 << 40),
        ("1P", 1 << 50),
        (".5k", 512),
        ("5.", 5),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        "abc",
        "-1",
        "-1k",
        "1 2",
        "1  k",
        ".",
        "1.2.3",
        "1_000",
        "٣",
        "1e3",
        "8e",
        "1" * 200,
        "0x10",
        "inf",
        " 1",
    ],
)
def test_invalid_sizes(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid size: '"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "suffix"), [("1x", "x"), ("1KX", "kx"), ("1kibb", "kibb"), ("1bb", "bb"), ("1ib", "ib")]
)
def test_invalid_suffixes(text: str, suffix: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_size(text)
    assert str(raised.value) == f"invalid suffix: '{suffix}'"


@given(st.integers(0, 2**63 - 1))
def test_plain_numbers_are_exact(size: int) -> None:
    assert parse_size(str(size)) == parse_size(f"{size}b") == size


@pytest.mark.parametrize(
    ("size", "human", "binary"),
    [
        (0, "0B", "0B"),
        (999, "999B", "999B"),
        (1000, "1kB", "1000B"),
        (1024, "1.024kB", "1KiB"),
        (1_500_000_000, "1.5GB", "1.397GiB"),
        (77_812_345, "77.81MB", "74.21MiB"),
        (3 * MIB // 2, "1.573MB", "1.5MiB"),
        (999_999, "1000kB", "976.6KiB"),
        (10**12, "1TB", "931.3GiB"),
        (2**63, "9.223EB", "8EiB"),
        (10**30, "1e+06YB", "8.272e+05YiB"),
    ],
)
def test_shown_sizes(size: int, human: str, binary: str) -> None:
    assert (human_size(size), bytes_size(size)) == (human, binary)


def test_three_digits_for_ps() -> None:
    assert human_size(77_812_345, 3) == "77.8MB"


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0", 0),
        ("0s", 0),
        ("10s", 10 * SECOND),
        ("1h30m", 90 * MINUTE),
        ("100ms", SECOND // 10),
        ("1us", 1000),
        ("1µs", 1000),  # micro sign
        ("1\u03bcs", 1000),  # Greek mu
        ("1ns", 1),
        ("1.5h", 90 * MINUTE),
        (".5s", SECOND // 2),
        ("-1m", -MINUTE),
        ("+1m", MINUTE),
        ("1m1m", 2 * MINUTE),
        ("1h1m1.000000001s", HOUR + MINUTE + SECOND + 1),
        ("0.1ns", 0),
    ],
)
def test_parse_duration(text: str, duration: int) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("s", 'time: invalid duration "s"'),
        (".s", 'time: invalid duration ".s"'),
        ("1.2.3s", 'time: invalid duration "1.2.3s"'),
        ("1h-1m", 'time: unknown unit "h-" in duration "1h-1m"'),
        ("5", 'time: missing unit in duration "5"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
        ("1 s", 'time: unknown unit " s" in duration "1 s"'),
        ("9223372037s", 'time: invalid duration "9223372037s"'),
    ],
)
def test_invalid_durations(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_duration(text)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3_300_000_000, "3.3s"),
        (4 * MINUTE + 5 * SECOND, "4m5s"),
        (4 * MINUTE + 5_001_000_000, "4m5.001s"),
        (5 * HOUR + 6 * MINUTE + 7_001_000_000, "5h6m7.001s"),
        (HOUR, "1h0m0s"),
        (MINUTE, "1m0s"),
        (100 * HOUR, "100h0m0s"),
        (-90 * SECOND, "-1m30s"),
    ],
)
def test_format_duration(duration: int, text: str) -> None:
    assert format_duration(duration) == text


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_durations_come_back(duration: int) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "Less than a second"),
        (450_000_000, "Less than a second"),
        (SECOND, "1 second"),
        (45 * SECOND, "45 seconds"),
        (46 * SECOND, "46 seconds"),
        (60 * SECOND, "About a minute"),
        (90 * SECOND, "About a minute"),
        (3 * MINUTE, "3 minutes"),
        (35 * MINUTE, "35 minutes"),
        (59 * MINUTE + 59 * SECOND, "59 minutes"),
        (HOUR, "About an hour"),
        (HOUR + 29 * MINUTE, "About an hour"),
        (HOUR + 31 * MINUTE, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY + 5 * HOUR, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
        (3 * 365 * DAY - HOUR, "2 years"),
        (10 * 365 * DAY, "10 years"),
    ],
)
def test_human_duration(duration: int, text: str) -> None:
    assert human_duration(duration) == text


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_714_557_600_123_456_789, "2024-05-01T10:00:00.123456789Z"),
        (1_714_557_600_120_000_000, "2024-05-01T10:00:00.12Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (-62135596800 * SECOND, "0001-01-01T00:00:00Z"),
    ],
)
def test_times(time: int, text: str) -> None:
    assert format_time(time) == text
    assert parse_time(text) == time


@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),
    st.integers(0, 999),
    st.integers(-1439, 1439),
)
def test_times_agree_with_datetime(moment: datetime, nanoseconds: int, zone: int) -> None:
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    time = (since.days * 86400 + since.seconds) * SECOND + since.microseconds * 1000 + nanoseconds
    assert parse_time(format_time(time)) == time
    offset = f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}:{abs(zone) % 60:02}"
    local = f"{moment.isoformat(timespec='microseconds')}{nanoseconds:03}{offset}"
    assert parse_time(local) == time - zone * MINUTE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-05-01",
        "2024-05-01T10:00:00",
        "2024-05-01 10:00:00Z",
        "2024-13-01T10:00:00Z",
        "2024-02-30T10:00:00Z",
        "2024-05-01T24:00:00Z",
        "2024-05-01T10:00:60Z",
        "2024-05-01T10:00:00.Z",
        "2024-05-01T10:00:00+24:00",
        "2024-05-01T10:00:00+02:60",
        "2024-05-01T10:00:00+0200",
        "2024-05-01T10:00:00+ 2:00",
        "2024-05-01T10:00:00ZZ",
        "0000-05-01T10:00:00Z",
        "٢024-05-01T10:00:00Z",
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not an RFC 3339 time"):
        parse_time(text)


def test_times_end_with_the_calendar() -> None:
    with pytest.raises(InvalidArgument, match="outside the years 1 to 9999"):
        format_time(2**63 * 1000)
