from pilot.resources.registry import load
from pilot.resources.validate_service import tells_protocol
from tests.pilot.faults import loaded, warnings


def test_a_port_tells_its_protocol_by_name_or_by_app_protocol():
    assert not loaded("Service", "ports: [{port: 80, name: http-web}, {port: 81, appProtocol: http}]").blemishes
    assert not loaded("Service", "ports: [{port: 53, protocol: UDP}]").blemishes
    found = loaded("Service", "ports: [{port: 80}]")
    assert [e.path for e in found.blemishes] == ["spec.ports[0].name"]
    assert found.objects


def test_system_services_are_left_alone():
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: istio-system}\nspec: {ports: [{port: 80}]}\n"
    assert not load(text, "f.yaml").blemishes


def test_doubtful_ports():
    assert warnings("Service", "ports: [{port: 80, name: web}, {name: http}]") == ["ports[0].name", "ports[1].port"]


def test_names():
    assert tells_protocol("grpc-web-x")
    assert tells_protocol("HTTP")
    assert not tells_protocol("httpx")
