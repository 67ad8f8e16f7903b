"""History is written as BuildKit writes it: every text here is one of BuildKit 0.25.1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.build.dockerfile import printing
from onggi.build.dockerfile.instructions import Copy, Run
from onggi.build.dockerfile.parser import parse_dockerfile
from onggi.build.dockerfile.ports import parse_ports
from onggi.build.dockerfile.quoting import quote
from onggi.spec.image_config import Healthcheck

SH = ("/bin/sh", "-c")


def parse_copy(text: str) -> Copy:
    """Give the COPY or ADD."""
    copy = parse_dockerfile(f"FROM a\n{text}\n").stages[0].instructions[0]
    assert isinstance(copy, Copy)
    return copy


def test_run() -> None:
    assert printing.run((*SH, "x $a")) == "RUN /bin/sh -c x $a # buildkit"
    assert printing.run(("a", "b c")) == "RUN a b c # buildkit"
    assert printing.run((*SH, ""), shell=True) == "RUN /bin/sh -c  # buildkit"
    args = [("a", "1"), ("b", "1"), ("c", ""), ("d", "")]
    assert printing.run((*SH, "x $a"), args) == "RUN |4 a=1 b=1 c= d= /bin/sh -c x $a # buildkit"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<<E\necho $a\nE", "RUN /bin/sh -c echo $a\n # buildkit"),
        ("<<-E cat\n\thi\n\tE", "RUN /bin/sh -c <<-E cat\n\thi\nE # buildkit"),
        ("<<E\n#!/bin/sh\nfoo\nE", "RUN /bin/sh -c /dev/pipes/E # buildkit"),
        ("cat <<A <<-B > x\n1\nA\n\t2\n\tB", "RUN /bin/sh -c cat <<A <<-B > x\n1\nA\n\t2\nB # buildkit"),
    ],
)
def test_run_with_here_documents(text: str, expected: str) -> None:
    run = parse_dockerfile(f"FROM a\nRUN {text}\n").stages[0].instructions[0]
    assert isinstance(run, Run)
    argv = (*SH, *run.command.words)
    assert printing.run(argv, shell=True, heredocs=run.command.heredocs) == expected


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("COPY a b c/", ("a", "b"), "COPY a b c/ # buildkit"),
        ("COPY --from=x a c/", ("a",), "COPY a c/ # buildkit"),
        (
            "COPY --chmod=755 --exclude=z --chown=1:2 b c /d/",
            ("b", "c"),
            "COPY --chown=1:2 --chmod=755 b c /d/ # buildkit",
        ),
        ("ADD --unpack=false a b", ("a",), "ADD a b # buildkit"),
        ("COPY <<E <<F x /y/\n1\nE\n2\nF", ("x", "<<E", "<<F"), "COPY x <<E <<F /y/ # buildkit"),
        ('COPY ["a b","c d"]', ("a b",), "COPY a b c d # buildkit"),
    ],
)
def test_copy(text: str, names: tuple[str, ...], expected: str) -> None:
    copy = parse_copy(text)
    assert printing.copy(copy, names, copy.destination) == expected


def test_copy_with_an_owner_that_was_expanded() -> None:
    copy = parse_copy("ADD --chown=$x e /g/")
    assert printing.copy(copy, ("e",), "/g/", chown="X") == "ADD --chown=X e /g/ # buildkit"


def test_the_rest() -> None:
    assert printing.arg([("a", "1"), ("b", ""), ("c", None)]) == "ARG a=1 b= c"
    assert printing.env([("x", "1 2"), ("y", "z")]) == "ENV x=1 2 y=z"
    assert printing.label([("a", "b c"), ("f", "")]) == "LABEL a=b c f="
    assert printing.cmd((*SH, 'z "q"')) == 'CMD ["/bin/sh" "-c" "z \\"q\\""]'
    assert printing.cmd(()) == "CMD []"
    assert printing.entrypoint(("a b", 'c"d')) == 'ENTRYPOINT ["a b" "c\\"d"]'
    assert printing.shell(("/bin/bash", "-o", "pipefail", "-c")) == "SHELL [/bin/bash -o pipefail -c]"
    assert printing.expose(("443/udp", "80/tcp")) == "EXPOSE [443/udp 80/tcp]"
    assert printing.volume(("/a", "/b c")) == "VOLUME [/a /b c]"
    assert printing.workdir("/a/c") == "WORKDIR /a/c"
    assert printing.user("a:b") == "USER a:b"
    assert printing.stopsignal("SIGUSR1") == "STOPSIGNAL SIGUSR1"
    assert printing.maintainer("me <a@b>") == "MAINTAINER me <a@b>"


@pytest.mark.parametrize(
    ("retries", "shown"),
    [
        (None, "'\\x00'"),
        (3, "'\\x03'"),
        (34, "'\"'"),
        (39, "'\\''"),
        (92, "'\\\\'"),
        (200, "'È'"),
        (55296, "'\ufffd'"),
        (1114112, "'\ufffd'"),
    ],
)
def test_healthcheck_shows_its_retries_as_a_character(retries: int | None, shown: str) -> None:
    check = Healthcheck(test=("CMD-SHELL", "x"), retries=retries)
    assert printing.healthcheck(check) == f'HEALTHCHECK &{{["CMD-SHELL" "x"] "0s" "0s" "0s" "0s" {shown}}}'


def test_healthcheck_with_times() -> None:
    second = 1_000_000_000
    check = Healthcheck(
        test=("CMD", "a", " b"),
        interval=5 * second,
        timeout=3 * second,
        start_period=60 * second,
        start_interval=second // 5,
        retries=3,
    )
    expected = 'HEALTHCHECK &{["CMD" "a" " b"] "5s" "3s" "1m0s" "200ms" \'\\x03\'}'
    assert printing.healthcheck(check) == expected
    assert printing.healthcheck(Healthcheck(test=("NONE",))).startswith('HEALTHCHECK &{["NONE"] "0s"')


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a\n\t\0", '"a\\n\\t\\x00"'),
        ("한 é\u00a0", '"한 é\\u00a0"'),
        ("\x7f", '"\\x7f"'),
        ("\udcff", '"\\xff"'),
        ("\U000e0001", '"\\U000e0001"'),
        ("\u200b", '"\\u200b"'),
    ],
)
def test_quoting_is_that_of_go(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(
    ("words", "ports"),
    [
        (("80",), ("80/tcp",)),
        (("22", "22-24", "443/udp", "9/TCP"), ("22/tcp", "22/tcp", "23/tcp", "24/tcp", "443/udp", "9/tcp")),
        (("7:8", "127.0.0.1:7:8/sctp", "7-9:8"), ("8/tcp", "8/sctp", "8/tcp")),
        (("0",), ("0/tcp",)),
        ((), ()),
    ],
)
def test_ports(words: tuple[str, ...], ports: tuple[str, ...]) -> None:
    assert parse_ports(words) == ports


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("foo", "invalid containerPort: foo"),
        ("70000", "invalid containerPort: 70000"),
        ("3-1", "invalid containerPort: 3-1"),
        ("1-2-3", "invalid containerPort: 1-2-3"),
        ("80/foo", 'invalid port: "80/foo": invalid proto: foo'),
        ("/tcp", 'invalid port: "/tcp": no port specified'),
        ("x:80", "invalid hostPort: x"),
        ("1-3:1-2", "invalid ranges specified for container and host Ports: 1-2 and 1-3"),
        ("a:1:2", "invalid IP address: a"),
    ],
)
def test_wrong_ports(word: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_ports((word,))
    assert str(caught.value) == message


@given(st.text("0123456789-/:tcpud.", max_size=14))
def test_any_port_is_read_or_explained(word: str) -> None:
    try:
        ports = parse_ports((word,))
    except InvalidArgument:
        return
    assert all(0 <= int(port.partition("/")[0]) <= 65535 for port in ports)
