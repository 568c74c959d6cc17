import json

from click.testing import CliRunner

from mesh.ctl.validate import command

GOOD = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: books}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v1}
      weight: 90
    - destination: {host: reviews, subset: v2}
      weight: 10
"""
RULE = """apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: books}
spec: {host: reviews, subsets: [{name: v1}]}
"""


def run(*arguments, stdin=None):
    return CliRunner().invoke(command, list(arguments), input=stdin)


def test_all_valid(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)
    result = run("-f", str(tmp_path))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr == "valid: 1 valid object, 0 notices\n"


def test_one_line_for_each_defect_with_place_path_and_remedy(tmp_path):
    (tmp_path / "bad.yaml").write_text(GOOD.replace("weight: 90", "weigth: 90").replace("weight: 10", "weight: -10"))
    (tmp_path / "broken.yaml").write_text("a: [\n")
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "kind.yaml").write_text(GOOD.replace("VirtualService", "VirtualServise"))
    result = run("-f", str(tmp_path))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{tmp_path}/bad.yaml:9:7 VirtualService/books/reviews spec.http[0].route[0].weigth: unknown field; "
        "did you mean weight?",
        f"{tmp_path}/bad.yaml:11:7 VirtualService/books/reviews spec.http[0].route[1].weight: "
        "the weight -10 is negative; write 0 or more",
        f"{tmp_path}/broken.yaml:2:1: not YAML: did not find expected node content while parsing a flow node; "
        "check the indentation, colons and brackets just before this place",
        f"{tmp_path}/kind.yaml:2:1 VirtualServise/books/reviews kind: no kind VirtualServise in networking.istio.io; "
        "did you mean VirtualService?",
    ]
    assert result.stderr.endswith("invalid: 4 defects in 3 files; 1 valid object, 0 notices\n")


def test_notices_do_not_make_it_invalid(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD + "    mirror: {host: reviews}\n---\n" + RULE)
    result = run("-f", str(tmp_path / "a.yaml"))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"warning: {tmp_path}/a.yaml:10:36 VirtualService/books/reviews spec.http[0].route[1].destination.subset: "
        "no DestinationRule of reviews.books.svc.cluster.local defines subset v2; defined subsets: v1",
        f"not served: {tmp_path}/a.yaml:12:5 VirtualService/books/reviews spec.http[0].mirror: "
        "accepted, not served yet; nothing is mirrored",
        "valid: 2 valid objects, 2 notices",
    ]


def test_json():
    result = run("-f", "-", "-o", "json", stdin=GOOD.replace("http:", "htpp:"))
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["valid"] is False
    assert answer["objects"] == 0
    assert answer["errors"] == [
        {
            "resource": {"kind": "VirtualService", "namespace": "books", "name": "reviews"},
            "file": "<stdin>",
            "line": 6,
            "column": 3,
            "field": "spec.htpp",
            "message": "unknown field",
            "remedy": "did you mean http?",
        }
    ]
    good = json.loads(run("-f", "-", "-o", "json", stdin=GOOD).stdout)
    assert good == {"valid": True, "objects": 1, "errors": [], "notices": []}


def test_wrong_usage(tmp_path):
    assert run().exit_code == 2
    assert run("-f", str(tmp_path), "-o", "xml").exit_code == 2
    assert "Example: meshctl validate" in run("--help").stdout
