"""`--privileged` by the whole command line: the devices of this host, beside those of the container's own."""

from tests.homes import IMAGE, Home

RUN = ("run", "--rm", "--network", "none", "--privileged", IMAGE, "sh", "-c")


def test_it_has_the_devices_of_the_host_and_terminals_of_its_own(home: Home) -> None:
    script = "stat -c %t:%T /dev/kmsg /dev/null; readlink /dev/ptmx; ls /dev/pts; exec 3<>/dev/ptmx && ls /dev/pts"
    assert home.ok(*RUN, script).split() == ["1:b", "1:3", "pts/ptmx", "ptmx", "0", "ptmx"]
