from pilot.resources.virtual_service import CorsPolicy, Destination, HttpMatchRequest, HttpRetry, StringMatch
from tests.pilot.faults import faults, spec

FULL = """
hosts: [reviews, "*.example.com"]
gateways: [mesh, ns/gw]
exportTo: [.]
http:
- name: everything
  match:
  - name: m
    uri: {prefix: /}
    scheme: {exact: http}
    method: {regex: GET|POST}
    authority: {exact: a}
    headers: {x-user: {exact: jason}, x-any: {}}
    withoutHeaders: {x-no: {prefix: a}}
    queryParams: {q: {regex: "1+"}}
    port: 80
    sourceLabels: {app: a}
    sourceNamespace: ns
    gateways: [mesh]
    ignoreUriCase: true
    statPrefix: s
  route:
  - destination: {host: reviews, subset: v1, port: {number: 9080}}
    weight: 90
    headers: {response: {remove: [x-a]}}
  - destination: {host: reviews}
    weight: 10
  rewrite: {uri: /new, authority: other}
  timeout: 1.5s
  retries: {attempts: 3, perTryTimeout: 100ms, retryOn: "5xx, 503", backoff: 25ms, retryIgnorePreviousHosts: false}
  fault:
    delay: {fixedDelay: 5s, percentage: {value: 0.1}}
    abort: {httpStatus: 500, percentage: {value: 1}}
  mirror: {host: shadow}
  mirrorPercentage: {value: 10}
  corsPolicy: {allowOrigins: [{exact: "https://a"}], allowMethods: [GET], maxAge: 24h, unmatchedPreflights: IGNORE}
  headers: {request: {set: {x-a: "1"}, add: {x-b: "%PROTOCOL%"}, remove: [x-c]}}
- match: [{uri: {exact: /a}}]
  redirect: {uri: /b, authority: c, redirectCode: 302, derivePort: FROM_REQUEST_PORT, scheme: https}
- match: [{uri: {exact: /d}}]
  directResponse: {status: 200, body: {string: hi}}
- match: [{uri: {exact: /r}}]
  rewrite: {uriRegexRewrite: {match: "^/(.*)", rewrite: '/v/\\1'}}
  route: [{destination: {host: reviews}}]
- delegate: {name: d, namespace: n}
tls:
- match: [{sniHosts: [a.example.com], port: 443, destinationSubnets: [10.0.0.0/8]}]
  route: [{destination: {host: a.example.com}}]
tcp:
- match: [{port: 3306, sourceLabels: {a: b}}]
  route: [{destination: {host: mysql}, weight: 5}]
"""


def test_every_field_decodes():
    made = spec("VirtualService", FULL)
    first = made.http[0]
    assert first.match[0] == HttpMatchRequest(
        name="m",
        uri=StringMatch(prefix="/"),
        scheme=StringMatch(exact="http"),
        method=StringMatch(regex="GET|POST"),
        authority=StringMatch(exact="a"),
        headers={"x-user": StringMatch(exact="jason"), "x-any": StringMatch()},
        without_headers={"x-no": StringMatch(prefix="a")},
        query_params={"q": StringMatch(regex="1+")},
        port=80,
        source_labels={"app": "a"},
        source_namespace="ns",
        gateways=("mesh",),
        ignore_uri_case=True,
        stat_prefix="s",
    )
    assert first.retries == HttpRetry(
        attempts=3, per_try_timeout=0.1, retry_on="5xx, 503", backoff=0.025, retry_ignore_previous_hosts=False
    )
    assert first.timeout == 1.5
    assert first.fault.delay.fixed_delay == 5.0
    assert isinstance(first.cors_policy, CorsPolicy)
    assert first.cors_policy.max_age == 86400
    assert made.http[1].redirect.derive_port == "FROM_REQUEST_PORT"
    assert made.http[2].direct_response.body.string == "hi"
    assert made.http[3].rewrite.uri_regex_rewrite.rewrite == "/v/\\1"
    assert made.tls[0].match[0].sni_hosts == ("a.example.com",)
    assert made.tcp[0].route[0].destination == Destination(host="mysql")


def test_an_unknown_field_of_any_level_is_told():
    found = faults("VirtualService", FULL.replace("ignoreUriCase", "ignoreUriCaze").replace("subset: v1", "subst: v1"))
    assert found == [
        "http[0].match[0].ignoreUriCaze: unknown field",
        "http[0].route[0].destination.subst: unknown field",
    ]
