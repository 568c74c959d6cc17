import pytest

from mesh import config
from pilot.translate.virtual_services import translate_rules
from pilot.translate.visibility import View
from tests.pilot.worlds import istio, objects, service, sidecar, world

HOST = "reviews.default.svc.cluster.local"
TO = "route: [{destination: {host: reviews}}]"


def routes(http, *, port=9080, gateway="mesh", client=None, extra=""):
    (obj,) = objects(istio("VirtualService", "v", f"  hosts: [reviews]\n  http:\n{http}"))
    view = View(world(service("reviews") + extra), client or sidecar())
    return translate_rules(view, obj, port, gateway)


def route(http, **options):
    (only,) = routes(http, **options)
    return only


def test_a_rule_without_match_goes_to_its_destination_with_default_retries():
    found = route(f"  - {TO}")
    assert found.match == config.RouteMatch()
    assert found.action == config.RouteAction(
        (config.WeightedCluster(f"outbound|9080||{HOST}"),), retries=config.RetryPolicy()
    )
    assert (found.origin.kind, found.origin.field, found.origin.line) == ("VirtualService", "spec.http[0]", 9)


def test_every_kind_of_condition():
    match = route(
        f"""
  - name: rule
    match:
    - name: one
      uri: {{prefix: /a}}
      ignoreUriCase: true
      method: {{exact: GET}}
      scheme: {{exact: https}}
      authority: {{regex: "a.*"}}
      headers: {{X-User: {{exact: jason}}, present: {{}}, any: {{regex: "*"}}, uri: {{exact: ignored}}}}
      withoutHeaders: {{x-bot: {{prefix: b}}}}
      queryParams: {{q: {{exact: "1"}}}}
    {TO}
"""
    )
    assert match.name == "rule.one"
    assert match.origin.field == "spec.http[0].match[0]"
    assert match.match == config.RouteMatch(
        path=config.StringMatch("prefix", "/a", ignore_case=True),
        method=config.StringMatch("exact", "GET"),
        scheme=config.StringMatch("exact", "https"),
        authority=config.StringMatch("regex", "a.*"),
        headers=(
            ("x-user", config.StringMatch("exact", "jason")),
            ("present", config.StringMatch("present")),
            ("any", config.StringMatch("present")),
        ),
        without_headers=(("x-bot", config.StringMatch("prefix", "b")),),
        query=(("q", config.StringMatch("exact", "1")),),
    )


def test_each_match_is_a_route_and_nothing_follows_a_catch_all():
    found = routes(
        f"""
  - match: [{{uri: {{exact: /a}}}}, {{uri: {{regex: "/b.*"}}}}]
    {TO}
  - match: [{{uri: {{prefix: /}}}}]
    {TO}
  - {TO}
"""
    )
    assert [item.match.path.value for item in found] == ["/a", "/b.*", "/"]


def test_conditions_known_beforehand_are_decided_beforehand():
    http = f"""
  - match: [{{port: 1, uri: {{exact: /port}}}}, {{sourceLabels: {{app: x}}, uri: {{exact: /labels}}}},
      {{sourceNamespace: other, uri: {{exact: /namespace}}}}, {{gateways: [gw], uri: {{exact: /gateway}}}}]
    {TO}
"""

    def paths(**options):
        return [item.match.path.value for item in routes(http, **options)]

    assert paths() == []
    assert paths(port=1) == ["/port"]
    assert paths(client=sidecar(app="x")) == ["/labels"]
    assert paths(client=sidecar("other")) == ["/namespace"]
    assert paths(gateway="default/gw") == ["/gateway"]


def test_weights_are_kept_zero_included_and_a_single_one_does_not_count():
    action = route(
        "  - route:\n    - {destination: {host: reviews, subset: v1}, weight: 90}\n"
        "    - {destination: {host: reviews, subset: v2}}"
    ).action
    assert [(item.cluster.split("|")[2], item.weight) for item in action.clusters] == [("v1", 90), ("v2", 0)]
    assert route("  - route: [{destination: {host: reviews}, weight: 0}]").action.clusters[0].weight == 1


def test_header_operations_of_route_and_destination():
    found = route(
        """
  - headers: {request: {set: {b: "2", a: "1"}, add: {c: "3"}, remove: [d]}}
    route: [{destination: {host: reviews}, headers: {request: {set: {host: x}}}}]
"""
    )
    assert found.request_headers == config.HeaderOps(("d",), (("a", "1"), ("b", "2")), (("c", "3"),))
    assert found.response_headers is None
    assert found.action.clusters[0].request_headers == config.HeaderOps(set=(("host", "x"),))


def test_timeout_retries_and_rewrite():
    action = route(
        f"""
  - timeout: 1s
    retries: {{attempts: 3, perTryTimeout: 2s, retryOn: "gateway-error,409", backoff: 10ms,
      retryIgnorePreviousHosts: false}}
    rewrite: {{uri: /new, authority: other}}
    {TO}
"""
    ).action
    assert action.timeout == 1.0
    assert action.retries == config.RetryPolicy(
        3, ("gateway-error", "retriable-status-codes"), (409,), 2.0, 0.01, 0.1, False
    )
    assert action.rewrite == config.Rewrite(prefix="/new", authority="other")
    regex = route(f"  - rewrite: {{uriRegexRewrite: {{match: a, rewrite: b}}}}\n    {TO}").action.rewrite
    assert (regex.prefix, regex.regex, regex.substitution) == (None, "a", "b")
    assert route(f"  - retries: {{attempts: 0}}\n    {TO}").action.retries is None


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ("{uri: /x, authority: y}", config.Redirect(path="/x", authority="y")),
        ("{scheme: https, redirectCode: 308}", config.Redirect(308, scheme="https")),
        ("{port: 8080}", config.Redirect(port=8080)),
        ("{authority: a, derivePort: FROM_REQUEST_PORT}", config.Redirect(authority="a", port=9080)),
        ("{authority: a, derivePort: FROM_PROTOCOL_DEFAULT}", config.Redirect(authority="a", port_from="protocol")),
    ],
)
def test_redirects(redirect, expected):
    assert route(f"  - redirect: {redirect}").action == expected


def test_a_port_from_the_request_that_is_the_schemes_own_is_not_written():
    http = "  - redirect: {scheme: https, derivePort: FROM_REQUEST_PORT}"
    assert route(http, port=443).action == config.Redirect(scheme="https")
    assert route(http, port=80).action == config.Redirect(scheme="https", port=80)
    assert route(http.replace("scheme: https, ", ""), port=80).action == config.Redirect()


def test_a_prefix_redirect():
    found = route("  - match: [{uri: {prefix: /a}}]\n    redirect: {prefixRewrite: /b}")
    assert found.action == config.Redirect(prefix="/b")


def test_direct_responses_in_text_and_in_bytes():
    assert route("  - directResponse: {status: 503, body: {string: no}}").action == config.DirectResponse(503, b"no")
    assert route("  - directResponse: {status: 200, body: {bytes: aGk=}}").action == config.DirectResponse(200, b"hi")
    assert route("  - directResponse: {status: 204}").action == config.DirectResponse(204)


def test_faults_without_percentage_do_nothing():
    fault = route(
        f"""
  - fault:
      delay: {{fixedDelay: 2s, percentage: {{value: 0.5}}}}
      abort: {{httpStatus: 500}}
    {TO}
"""
    ).fault
    assert fault == config.Fault(config.FaultDelay(2.0, 0.5), config.FaultAbort(500, None, 0.0))
    fault = route(f"  - fault: {{abort: {{grpcStatus: UNAVAILABLE, percentage: {{value: 100}}}}}}\n    {TO}").fault
    assert fault == config.Fault(None, config.FaultAbort(0, 14, 100.0))


def test_a_rule_that_only_delegates_gives_no_route():
    (obj,) = objects(
        istio("VirtualService", "v", "  hosts: [reviews]\n  gateways: [gw]\n  http: [{delegate: {name: x}}]")
    )
    assert translate_rules(View(world(), sidecar()), obj, 80, "default/gw") == []
