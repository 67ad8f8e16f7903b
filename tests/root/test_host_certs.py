"""--host-certs, and the switch for it in the machine's configuration: a bundle to trust, and no trace of it."""

from pathlib import Path

import pytest

from onggi.host.certs import BUNDLES, CERT_VARIABLES, TARGET
from tests.homes import IMAGE, Home

BUNDLE = next((Path(path) for path in BUNDLES if Path(path).is_file()), None)
RUN = ("run", "--rm", "--network", "none")
pytestmark = pytest.mark.skipif(BUNDLE is None, reason="needs a bundle: apt-get install ca-certificates")


def configure(home: Home, text: str, *, warm: bool = True) -> dict[str, str]:
    """Write a configuration; gives the environment that names it."""
    place = home.root.parent / "config.toml"
    place.write_text(text)
    return home.environment(warm=warm, ONGGI_CONFIG=str(place))


def test_a_container_sees_the_bundle_and_what_names_it(home: Home) -> None:
    assert BUNDLE is not None
    assert home.ok(*RUN, "--host-certs", IMAGE, "cat", TARGET) == BUNDLE.read_text()
    env = home.ok(*RUN, "--host-certs", "-e", "PIP_CERT=/mine", IMAGE, "env").splitlines()
    wanted = {f"{name}={TARGET}" for name in CERT_VARIABLES if name != "PIP_CERT"}
    assert wanted | {"PIP_CERT=/mine"} <= set(env)


def test_it_cannot_be_written(home: Home) -> None:
    done = home.onggi(*RUN, "--host-certs", IMAGE, "sh", "-c", f"echo mine > {TARGET}")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr


def test_a_session_sees_it_and_a_commit_does_not(home: Home) -> None:
    home.ok("run", "-d", "--name", "c", "--network", "none", "--host-certs", IMAGE, "sleep", "60")
    assert home.ok("exec", "c", "sh", "-c", "head -c 5 $SSL_CERT_FILE") == "-----"
    home.ok("commit", "c", "kept")
    assert "SSL_CERT_FILE" not in home.ok("inspect", "kept")
    assert home.ok(*RUN, "kept", "sh", "-c", f"ls {TARGET} 2>&1; echo .$SSL_CERT_FILE").endswith("\n.\n")


@pytest.mark.parametrize("warm", [True, False])
def test_the_machine_may_want_it_always(home: Home, warm: bool) -> None:
    env = configure(home, "host-certs = true\n", warm=warm)
    command = (IMAGE, "sh", "-c", "echo .$SSL_CERT_FILE")
    assert home.ok(*RUN, *command, env=env) == f".{TARGET}\n"
    assert home.ok(*RUN, "--no-host-certs", *command, env=env) == ".\n"
    assert home.ok(*RUN, *command) == ".\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("host-cert = true\n", "Object contains unknown field `host-cert`"),
        ("host-certs = 'yes'\n", "Expected `bool`, got `str` - at `$.host-certs`"),
        ("host-certs =\n", "Invalid value (at line 1, column 13)"),
    ],
)
def test_a_configuration_that_is_wrong(home: Home, tmp_path: Path, text: str, says: str) -> None:
    done = home.onggi(*RUN, IMAGE, "true", env=configure(home, text))
    assert (done.returncode, done.stderr) == (125, f"onggi: {tmp_path}/config.toml: {says}\n")


def test_a_build_step_sees_it_and_the_image_does_not(home: Home, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN head -c 5 $SSL_CERT_FILE > /seen\n")
    env = configure(home, "host-certs = true\n", warm=False)
    home.ok("build", "-t", "built", "--network", "none", str(tmp_path), env=env)
    script = f"cat /seen; ls /dev | grep -c certs; ls {TARGET} 2>&1; echo .$SSL_CERT_FILE"
    said = home.ok(*RUN, "built", "sh", "-c", script)
    assert said.startswith("-----0\n")
    assert said.endswith("\n.\n")
