from mesh.errors import ConfigError
from pilot.resources.report import Finding, Notice, Report


def test_a_report_collects():
    report = Report()
    report(("a",), "wrong", "right")
    report.warn(("b",), "odd")
    report.style(("c",), "ugly")
    assert report.faults == [Finding(("a",), "wrong", "right")]
    assert [f.what for f in report.warnings + report.blemishes] == ["odd", "ugly"]


def test_a_notice_reads_like_an_error():
    error = ConfigError(
        "what", remedy="instead", path="spec.x", kind="K", namespace="ns", name="n", file="f.yaml", line=3, column=5
    )
    notice = Notice.of(error)
    assert notice.level == "warning"
    assert str(notice) == str(error) == "f.yaml:3:5 K/ns/n spec.x: what; instead"
