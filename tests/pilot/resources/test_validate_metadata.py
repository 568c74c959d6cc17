from pilot.resources.meta import ObjectMeta
from pilot.resources.report import Report
from pilot.resources.validate_metadata import check_annotations


def refused(kind, **annotations):
    report = Report()
    names = {
        name.replace("__", "/").replace("_", "-").replace("-istio-io", ".istio.io"): v
        for name, v in annotations.items()
    }
    check_annotations(kind, ObjectMeta(name="a", annotations=names), report)
    return [fault.path[-1] for fault in report.faults]


def test_annotations_that_only_the_control_plane_writes():
    assert refused("VirtualService", internal_istio_io__parents="a/b") == ["internal.istio.io/parents"]
    assert refused("Gateway", internal_istio_io__webhook_always_reject="") == [
        "internal.istio.io/webhook-always-reject"
    ]


def test_only_authorization_policies_run_dry():
    assert refused("RequestAuthentication", **{"istio.io/dry-run": "true"}) == ["istio.io/dry-run"]
    assert refused("AuthorizationPolicy", **{"istio.io/dry-run": "true"}) == []


def test_other_annotations_are_free():
    assert refused("VirtualService", **{"example.com/a": "b"}) == []
