import json

import pytest
from click.testing import CliRunner

from mesh.ctl.main import cli
from tests.pilot.worlds import deployment, istio, service

RULES = istio(
    "VirtualService",
    "reviews",
    """
  hosts: [reviews]
  http:
  - name: slow
    match: [{uri: {prefix: /slow}}]
    fault: {delay: {fixedDelay: 2s, percentage: {value: 10}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}
    timeout: 3s
    route: [{destination: {host: reviews}}]
  - match: [{uri: {exact: /moved}}]
    redirect: {uri: /new}
  - match: [{uri: {exact: /tea}}]
    directResponse: {status: 418}
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {prefix: /both}}]
    route: [{destination: {host: reviews}, weight: 3}, {destination: {host: ratings}, weight: 1}]
  - match: [{uri: {prefix: /v1}}]
    route: [{destination: {host: reviews, subset: v1}}]
""",
)
SUBSET = istio("DestinationRule", "r", "  host: reviews\n  subsets: [{name: v1, labels: {version: v1}}]")


@pytest.fixture
def folder(tmp_path):
    text = service("reviews") + service("ratings") + deployment("reviews-v1", app="reviews") + RULES + SUBSET
    (tmp_path / "mesh.yaml").write_text(text)
    return tmp_path


def run(*args):
    return CliRunner().invoke(cli, ["route", *map(str, args)])


def text(folder, *args):
    result = run("-f", folder, *args)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_the_tree_ends_in_file_and_line(folder):
    result = text(folder, "--url", "http://reviews:9080/v1")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "GET http://reviews:9080/v1"
    assert "goes to the backend" in lines[1]
    assert any("subset v1, for instance reviews-v1, mTLS" in line for line in lines)
    assert any('not        slow: path is not prefix "/slow"' in line for line in lines)
    assert lines[-1].startswith("└─ decided by DestinationRule default/r spec.subsets[0]")
    assert lines[-1].endswith(f"{folder}/mesh.yaml:" + lines[-1].rpartition(":")[2])
    assert int(lines[-1].rpartition(":")[2]) > 50


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/slow",
            ["delay of 2 s on 10 %", "abort with grpc-status 14 on 1 %", "timeout    3 s", "2 on connect-failure"],
        ),
        ("/moved", ["301 to http://reviews:9080/new"]),
        ("/tea", ["418 by the proxy itself"]),
        ("/both", ["75 %  reviews.default.svc.cluster.local", "25 %  ratings.default.svc.cluster.local"]),
    ],
)
def test_what_the_tree_says(folder, path, expected):
    result = text(folder, "--url", f"http://reviews:9080{path}")
    assert result.exit_code == 0
    for words in expected:
        assert words in result.output


def test_a_refusal_exits_1_and_says_why(folder):
    result = text(folder, "--url", "http://reviews:9080/", "-H", "end-user: jason")
    assert result.exit_code == 1
    assert "503 NC cluster_not_found" in result.output
    assert 'no DestinationRule defines subset "v2"' in result.output
    assert text(folder, "--url", "http://reviews:9080/").exit_code == 1


def test_outside_the_mesh(folder):
    assert "PassthroughCluster" in text(folder, "--url", "http://example.com/").output
    closed = '{"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}'
    assert "REGISTRY_ONLY" in text(folder, "--url", "http://example.com:9080/", "--mesh-config", closed).output


def test_a_request_as_json_is_answered_as_json(folder):
    request = {"url": "http://reviews:9080/v1", "from": "default/reviews", "via": "sidecar", "note": "ignored"}
    result = text(folder, "--request", json.dumps(request), "-o", "json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["status"] == 200
    assert answer["backend"]["subset"] == "v1"
    assert answer["decided_by"][0]["kind"] == "VirtualService"


def test_headers_may_repeat_and_host_is_the_authority(folder):
    result = text(
        folder, "--url", "http://10.0.0.7:9080/v1", "-H", "Host: reviews", "-H", "a: 1", "-H", "a: 2", "-o", "json"
    )
    upstream = json.loads(result.stdout)["upstream"]
    assert upstream["host"] == "reviews"
    assert upstream["headers"]["a"] == "1,2"


def test_the_mesh_config_may_be_a_file(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "mesh.yaml"
    file.write_text("outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n")
    result = text(folder, "--url", "http://example.com:9080/", "--mesh-config", file, "-o", "json")
    assert json.loads(result.stdout)["blackhole"] is True
    assert result.exit_code == 1


def test_objects_with_errors_are_told_and_left_out(folder):
    (folder / "bad.yaml").write_text(istio("VirtualService", "bad", "  hosts: [x]\n  htpp: []"))
    result = text(folder, "--url", "http://reviews:9080/v1")
    assert result.exit_code == 0
    assert "did you mean http?" in result.stderr
    assert "left out of the answer" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "give --url"),
        (["--url", "http://a/", "-H", "nonsense"], "write 'name: value'"),
        (["--url", "http://a/", "--mesh-config", "{"], "--mesh-config"),
        (["--url", "http://a/", "--mesh-config", '{"trustDomian": "x"}'], "did you mean trustDomain?"),
        (["--url", "http://a/", "--mesh-config", "/no/such/file"], "give a file or JSON"),
        (["--request", "{"], "--request:"),
        (["--url", "nonsense"], "is not a URL"),
    ],
)
def test_wrong_usage_exits_2_with_a_message(folder, args, words):
    result = run("-f", folder, *args)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_mesh_config_that_is_no_mapping(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "mesh.yaml"
    file.write_text("- a\n")
    result = run("-f", folder, "--url", "http://a/", "--mesh-config", file)
    assert result.exit_code == 2
    assert "mapping" in result.stderr
