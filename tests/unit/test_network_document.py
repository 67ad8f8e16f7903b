"""What `inspect` says about networks."""

from onggi.cli.network_document import bindings_document, network_document
from onggi.engine.networks import NetworkSettings
from onggi.spec.container import ContainerRequest
from onggi.spec.ports import PublishedPort, parse_publish


def test_a_place_on_a_bridge() -> None:
    ports = tuple(
        PublishedPort(protocol="tcp", host_ip=every, host_port=8080, container_port=80) for every in ("0.0.0.0", "::")
    )
    settings = NetworkSettings(
        network="bridge",
        bridge="onggi0",
        address4="10.201.0.2",
        prefix4=16,
        gateway4="10.201.0.1",
        address6="",
        prefix6=0,
        gateway6="",
        mac="02:6f:0a:c9:00:02",
        link="veth0",
        ports=ports,
    )
    document = network_document(settings, "bridge")
    assert document["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
    }
    assert document["IPAddress"] == document["Networks"]["bridge"]["IPAddress"] == "10.201.0.2"


def test_nowhere() -> None:
    assert network_document(None, "none")["Networks"]["none"]["IPAddress"] == ""


def test_bindings_as_they_were_asked_for() -> None:
    ports = tuple(port for text in ("127.0.0.1:8080:80", "81/udp", "9000-9002:82") for port in parse_publish(text))
    assert bindings_document(ContainerRequest(ports=ports)) == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "81/udp": [{"HostIp": "", "HostPort": ""}],
        "82/tcp": [{"HostIp": "", "HostPort": "9000-9002"}],
    }
