"""hosts.toml and directories of certificates, as containerd, Docker and containers lay them out."""

import os
import re
from pathlib import Path

import pytest

from onggi.base.errors import FailedPrecondition, InvalidArgument
from onggi.host.config_files import ConfigFiles
from onggi.registry.hosts import RegistryPaths, find_endpoints, read_config, usual_paths
from onggi.registry.hosts_file import parse_hosts
from onggi.registry.server_tables import MAX_BYTES
from onggi.registry.servers import plan_endpoints
from onggi.spec.reference import parse_reference
from onggi.spec.registry import EVERYTHING, ClientCertificate, Endpoint

HOSTS = "/etc/containerd/certs.d/docker.io/hosts.toml"


class Machine:
    """A directory in place of /etc, and one in place of a user's configuration."""

    def __init__(self, path: Path) -> None:
        self.etc, self.home = path / "etc", path / "home"
        usual = usual_paths("/home")
        self.paths = RegistryPaths(
            files=tuple(f"{path}{file}" for file in usual.files),
            containerd=tuple(f"{path}{root}" for root in usual.containerd),
            certificates=tuple(f"{path}{root}" for root in usual.certificates),
        )

    def write(self, name: str, text: str = "") -> str:
        path = self.etc / name if not name.startswith("~") else self.home / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    def endpoints(self, name: str) -> tuple[Endpoint, ...]:
        config = read_config(self.paths, ConfigFiles())
        return find_endpoints(config, config.parse_reference(name))

    def urls(self, name: str) -> list[str]:
        return [endpoint.url for endpoint in self.endpoints(name)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def planned(text: str, name: str = "ubuntu") -> tuple[Endpoint, ...]:
    return plan_endpoints(parse_hosts(text.encode(), HOSTS), parse_reference(name))


# -- hosts.toml ------------------------------------------------------------------------------------


def test_hosts_are_tried_in_their_order_then_the_server() -> None:
    text = """
server = "https://registry-1.docker.io"
[host."https://public.example.com"]
  capabilities = ["pull"]
[host."http://192.168.31.250:5000"]
  capabilities = ["pull", "resolve"]
[host."https://private.example.com/us"]
"""
    found = planned(text)
    assert [endpoint.url for endpoint in found] == [
        "https://public.example.com/v2",
        "http://192.168.31.250:5000/v2",
        "https://private.example.com/us/v2",
        "https://registry-1.docker.io/v2",
    ]
    assert [endpoint.capabilities for endpoint in found] == [("pull",), ("pull", "resolve"), EVERYTHING, EVERYTHING]
    assert [endpoint.namespace for endpoint in found] == ["docker.io"] * 3 + [""]
    assert [endpoint.host for endpoint in found][-1] == "docker.io"


def test_every_key_arrives() -> None:
    text = """
server = "mirror.example.com"
ca = "one.pem"
client = "both.pem"
[header]
  X-Own = "own"
[host."https://h.example.com/v2/upstream"]
  ca = ["/a.pem", "b.pem"]
  client = [["c.cert", "c.key"], ["d.pem", ""], "e.pem"]
  skip_verify = true
  override_path = true
  dial_timeout = "1s"
  [host."https://h.example.com/v2/upstream".header]
    x-custom-2 = ["value1", "value2"]
"""
    host, server = planned(text)
    here = "/etc/containerd/certs.d/docker.io"
    assert (host.url, host.insecure, host.connect_timeout_s) == ("https://h.example.com/v2/upstream", True, 1.0)
    assert host.ca_files == ("/a.pem", f"{here}/b.pem")
    assert host.client_certificates == (
        ClientCertificate(certificate=f"{here}/c.cert", key=f"{here}/c.key"),
        ClientCertificate(certificate=f"{here}/d.pem"),
        ClientCertificate(certificate=f"{here}/e.pem"),
    )
    assert host.headers == (("x-custom-2", "value1, value2"),)
    assert (server.url, server.insecure, server.ca_files) == (
        "https://mirror.example.com/v2",
        False,
        (f"{here}/one.pem",),
    )
    assert server.client_certificates == (ClientCertificate(certificate=f"{here}/both.pem"),)
    assert server.headers == (("X-Own", "own"),)


@pytest.mark.parametrize(
    ("url", "override", "base"),
    [
        ("https://h", "false", "https://h/v2"),
        ("https://h/", "false", "https://h/v2"),
        ("https://h/v2", "false", "https://h/v2"),
        ("https://h/a", "false", "https://h/a/v2"),
        ("https://h/a", "true", "https://h/a"),
        ("https://h", "true", "https://h"),
        ("H:5000", "false", "https://h:5000/v2"),
    ],
)
def test_the_base_of_a_host_is_as_in_containerd(url: str, override: str, base: str) -> None:
    assert planned(f'[host."{url}"]\noverride_path = {override}')[0].url == base


@pytest.mark.parametrize("key", ['ca = "a"', 'client = "a"', "skip_verify = true", "skip_verify = false"])
def test_http_with_something_said_of_tls_is_tried_with_tls_first(key: str) -> None:
    first, second, _ = planned(f'[host."http://h:5000"]\n{key}')
    assert (first.url, second.url, second.fallback) == ("https://h:5000/v2", "http://h:5000/v2", True)
    assert planned(f'[host."http://h:80"]\n{key}')[0].url == "http://h:80/v2"


def test_without_a_server_the_registry_itself_comes_last() -> None:
    assert [endpoint.url for endpoint in planned('[host."https://m"]')][1:] == ["https://registry-1.docker.io/v2"]
    assert [endpoint.url for endpoint in planned("skip_verify = true", "localhost:5000/a")] == [
        "https://localhost:5000/v2",
        "http://localhost:5000/v2",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'proxy = "http://p"',
            "unknown field `proxy`; known here: ca, capabilities, client, dial_timeout, header, host",
        ),
        ('[host."https://m"]\nserver = "x"', 'host."https://m": Object contains unknown field `server`'),
        ('[host."ftp://m"]', "host.\"ftp://m\": 'ftp://m' is not a URL"),
        ('[host."https://m"]\ncapabilities = ["fly"]', "Invalid enum value 'fly'"),
        ('[host."https://m"]\ndial_timeout = 3', "Expected `str`, got `int` - at `dial_timeout`"),
        ('[host."https://user:secret@m"]', "a URL with a user in it"),
        ("host = 3", "Expected `object`, got `int` - at `host`"),
        ("x = \n\n", "line 1"),
    ],
)
def test_what_is_wrong_in_hosts_toml_is_named(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        planned(text)
    assert str(caught.value).startswith(f"{HOSTS}: ")
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


# -- which file counts -----------------------------------------------------------------------------


def test_registries_toml_goes_over_hosts_toml_and_that_over_nothing(machine: Machine) -> None:
    assert machine.urls("ubuntu") == ["https://registry-1.docker.io/v2"]
    machine.write("containerd/certs.d/docker.io/hosts.toml", '[host."https://c"]')
    assert machine.urls("ubuntu") == ["https://c/v2", "https://registry-1.docker.io/v2"]
    machine.write("onggi/registries.toml", '[registry."docker.io/library"]\nmirrors = ["https://o"]')
    assert machine.urls("ubuntu") == ["https://o/v2", "https://registry-1.docker.io/v2"]
    assert machine.urls("a/b") == ["https://c/v2", "https://registry-1.docker.io/v2"]
    machine.write("~/onggi/registries.toml", '[registry."docker.io/library"]\nmirrors = ["https://u"]')
    assert machine.urls("ubuntu") == ["https://u/v2", "https://registry-1.docker.io/v2"]


def test_the_default_registry_is_that_of_short_names_only(machine: Machine) -> None:
    machine.write("onggi/registries.toml", 'default-registry = "r.example.com"')
    config = read_config(machine.paths, ConfigFiles())
    names = ["a", "team/a:1", "docker.io/a", "localhost/a", "q.io/a"]
    assert [str(config.parse_reference(name)) for name in names] == [
        "r.example.com/a",
        "r.example.com/team/a:1",
        "docker.io/library/a",
        "localhost/a",
        "q.io/a",
    ]


@pytest.mark.parametrize(
    ("name", "directories"),
    [
        ("r.io:5000/a", ["r.io_5000_", "r.io:5000", "_default"]),
        ("r.io/a", ["r.io", "_default"]),
        ("ubuntu", ["docker.io", "_default"]),
        ("[2001:db8::1]:5000/a", ["[2001:db8::1]_5000_", "[2001:db8::1]:5000", "_default"]),
        ("[2001:db8::1]/a", ["[2001:db8::1]", "_default"]),
    ],
)
def test_directories_of_containerd_are_looked_at_in_its_order(
    machine: Machine, name: str, directories: list[str]
) -> None:
    for number, directory in reversed(list(enumerate(directories))):
        machine.write(f"containerd/certs.d/{directory}/hosts.toml", f'[host."https://m{number}"]')
        assert machine.urls(name)[0] == f"https://m{number}/v2"
    machine.write(f"~/containerd/certs.d/{directories[0]}/hosts.toml", '[host."https://home"]')
    assert machine.urls(name)[0] == "https://home/v2"


def test_the_default_of_a_user_leaves_what_is_set_for_a_host(machine: Machine) -> None:
    machine.write("containerd/certs.d/r.io/hosts.toml", '[host."https://m"]')
    machine.write("~/containerd/certs.d/_default/hosts.toml", '[host."https://home"]')
    assert machine.urls("r.io/a")[0] == "https://m/v2"
    assert machine.urls("q.io/a")[0] == "https://home/v2"


def test_a_directory_of_the_host_hides_the_default_even_without_hosts_toml(machine: Machine) -> None:
    machine.write("containerd/certs.d/_default/hosts.toml", '[host."https://m"]')
    certificate = machine.write("containerd/certs.d/r.io/ca.crt")
    machine.write("containerd/certs.d/r.io/hosts.toml")
    (endpoint,) = machine.endpoints("r.io/a")
    assert (endpoint.url, endpoint.ca_files) == ("https://r.io/v2", (certificate,))


# -- certificates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["docker/certs.d", "containers/certs.d", "~/docker/certs.d", "containerd/certs.d"])
def test_certificates_of_a_host_are_found(machine: Machine, root: str) -> None:
    names = ("b.crt", "a.crt", "c.cert", "c.key", "README")
    b, a, certificate, key, _ = (machine.write(f"{root}/r.io:5000/{name}") for name in names)
    (endpoint,) = machine.endpoints("r.io:5000/a")
    assert endpoint.ca_files == (a, b)
    assert endpoint.client_certificates == (ClientCertificate(certificate=certificate, key=key),)
    assert machine.endpoints("r.io/a")[0].ca_files == ()


def test_the_first_directory_with_certificates_counts(machine: Machine) -> None:
    roots = ("~/docker", "~/containers", "docker", "containers")
    for root in reversed(roots):
        path = machine.write(f"{root}/certs.d/r.io/ca.crt")
        assert machine.endpoints("r.io/a")[0].ca_files == (path,)
    machine.write("containerd/certs.d/r.io/README")
    assert machine.endpoints("r.io/a")[0].ca_files == (str(machine.home / "docker/certs.d/r.io/ca.crt"),)


def test_mirrors_have_certificates_of_their_own_host(machine: Machine) -> None:
    machine.write("onggi/registries.toml", '[registry."docker.io"]\nmirrors = ["https://m:5000", "http://m:5000"]')
    path = machine.write("docker/certs.d/m:5000/ca.crt")
    hub = machine.write("docker/certs.d/docker.io/ca.crt")
    assert [endpoint.ca_files for endpoint in machine.endpoints("ubuntu")] == [(path,), (), (hub,)]


def test_what_a_configuration_names_itself_counts_alone(machine: Machine) -> None:
    machine.write("docker/certs.d/r.io/ca.crt")
    machine.write("onggi/registries.toml", '[registry."r.io"]\nca = "/own.pem"')
    assert machine.endpoints("r.io/a")[0].ca_files == ("/own.pem",)


def test_certificates_beside_hosts_toml_are_only_for_whom_it_names(machine: Machine) -> None:
    machine.write("containerd/certs.d/docker.io/hosts.toml", '[host."https://m"]\nca = "mirror.crt"')
    path = machine.write("containerd/certs.d/docker.io/mirror.crt")
    mirror, hub = machine.endpoints("ubuntu")
    assert (mirror.ca_files, hub.ca_files) == ((path,), ())


def test_the_default_certificates_are_for_registries_and_no_mirror(machine: Machine) -> None:
    machine.write("onggi/registries.toml", '[registry."r.io"]\nmirrors = ["https://m"]')
    path = machine.write("containerd/certs.d/_default/ca.crt")
    mirror, own = machine.endpoints("r.io/a")
    assert (mirror.ca_files, own.ca_files) == ((), (path,))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.cert", "missing key a.key for client certificate a.cert. CA certificates must use the extension .crt"),
        ("a.key", "missing client certificate a.cert for key a.key"),
    ],
)
def test_half_a_client_certificate_is_refused_as_docker_does(machine: Machine, name: str, says: str) -> None:
    path = machine.write(f"docker/certs.d/r.io/{name}")
    with pytest.raises(InvalidArgument, match=re.escape(f"{os.path.dirname(path)}: {says}")):
        machine.endpoints("r.io/a")


def test_containerd_allows_certificate_and_key_in_one_file(machine: Machine) -> None:
    path = machine.write("containerd/certs.d/r.io/a.cert")
    machine.write("containerd/certs.d/r.io/b.key")
    assert machine.endpoints("r.io/a")[0].client_certificates == (ClientCertificate(certificate=path),)


# -- hostile files ---------------------------------------------------------------------------------


def test_a_file_that_is_too_large_is_refused(machine: Machine) -> None:
    machine.write("onggi/registries.toml", "#" * MAX_BYTES)
    assert machine.urls("r.io/a") == ["https://r.io/v2"]
    path = machine.write("onggi/registries.toml", "#" * (MAX_BYTES + 1))
    with pytest.raises(InvalidArgument, match=re.escape(f"{path} is larger than the 256 KiB")):
        machine.endpoints("r.io/a")


def test_a_directory_with_too_many_files_is_refused(machine: Machine) -> None:
    for number in range(1001):
        path = machine.write(f"docker/certs.d/r.io/{number}.crt")
    with pytest.raises(InvalidArgument, match=re.escape(f"{os.path.dirname(path)} has more than 1000 files")):
        machine.endpoints("r.io/a")


def test_links_are_followed(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/hosts.toml").write_text('[host."https://m"]')
    (machine.etc / "containerd/certs.d").mkdir(parents=True)
    (machine.etc / "containerd/certs.d/r.io").symlink_to(tmp_path / "elsewhere")
    assert machine.urls("r.io/a") == ["https://m/v2", "https://r.io/v2"]


@pytest.mark.parametrize("place", ["onggi/registries.toml", "containerd/certs.d/r.io/hosts.toml"])
@pytest.mark.parametrize("kind", ["loop", "nothing", "fifo", "directory"])
def test_what_is_no_file_gets_a_sentence(machine: Machine, place: str, kind: str) -> None:
    path = machine.etc / place
    path.parent.mkdir(parents=True)
    match kind:
        case "loop":
            path.symlink_to(path.name)
        case "nothing":
            path.symlink_to("gone")
        case "fifo":
            os.mkfifo(path)
        case _:
            path.mkdir()
    with pytest.raises(FailedPrecondition, match=re.escape(f"{path}: ")):
        machine.endpoints("r.io/a")


def test_certificates_that_are_no_files_are_none(machine: Machine) -> None:
    path = Path(machine.write("docker/certs.d/r.io/ca.crt"))
    os.mkfifo(path.with_name("fifo.crt"))
    path.with_name("gone.crt").symlink_to("gone")
    path.with_name("directory.crt").mkdir()
    assert machine.endpoints("r.io/a")[0].ca_files == (str(path),)


def test_a_domain_never_leaves_its_directory(machine: Machine) -> None:
    config = read_config(machine.paths, ConfigFiles())
    for domain in ("..", "../../..", "a/../..", "_default", "a\0"):
        with pytest.raises(InvalidArgument, match="is not a host"):
            find_endpoints(config, type(parse_reference("a"))(domain=domain, path="a"))


def test_the_usual_places() -> None:
    assert usual_paths().files == ("/etc/onggi/registries.toml",)
    assert usual_paths("/h/.config").files == ("/etc/onggi/registries.toml", "/h/.config/onggi/registries.toml")
    assert usual_paths().containerd == ("/etc/containerd/certs.d",)
    assert usual_paths().certificates == ("/etc/docker/certs.d", "/etc/containers/certs.d")
