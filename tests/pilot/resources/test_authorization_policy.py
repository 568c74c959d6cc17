from pilot.resources.authorization_policy import Operation, Source, TargetRef, When
from tests.pilot.faults import spec

FULL = """
selector: {matchLabels: {app: a}}
action: DENY
rules:
- from:
  - source:
      principals: [p]
      notPrincipals: [q]
      requestPrincipals: [i/s]
      notRequestPrincipals: [i/t]
      namespaces: [n]
      notNamespaces: [m]
      ipBlocks: [10.0.0.0/8]
      notIpBlocks: [10.1.0.0/16]
      remoteIpBlocks: [1.2.3.4]
      notRemoteIpBlocks: ["::1"]
  - source: {serviceAccounts: [a, n/b], notServiceAccounts: [c]}
  - source: {trustDomains: [d], notTrustDomains: [e]}
  to:
  - operation:
      hosts: [h]
      notHosts: [i]
      ports: ["80"]
      notPorts: ["81"]
      methods: [GET]
      notMethods: [PUT]
      paths: [/a*]
      notPaths: ["/a/{*}/{**}"]
  when:
  - {key: "request.headers[x]", values: [a], notValues: [b]}
"""


def test_every_field_decodes():
    made = spec("AuthorizationPolicy", FULL)
    assert made.selector.match_labels == {"app": "a"}
    assert made.action == "DENY"
    (rule,) = made.rules
    first, second, third = (entry.source for entry in rule.from_)
    assert first == Source(
        principals=("p",),
        not_principals=("q",),
        request_principals=("i/s",),
        not_request_principals=("i/t",),
        namespaces=("n",),
        not_namespaces=("m",),
        ip_blocks=("10.0.0.0/8",),
        not_ip_blocks=("10.1.0.0/16",),
        remote_ip_blocks=("1.2.3.4",),
        not_remote_ip_blocks=("::1",),
    )
    assert second == Source(service_accounts=("a", "n/b"), not_service_accounts=("c",))
    assert third == Source(trust_domains=("d",), not_trust_domains=("e",))
    assert rule.to[0].operation == Operation(
        hosts=("h",),
        not_hosts=("i",),
        ports=("80",),
        not_ports=("81",),
        methods=("GET",),
        not_methods=("PUT",),
        paths=("/a*",),
        not_paths=("/a/{*}/{**}",),
    )
    assert rule.when == (When("request.headers[x]", ("a",), ("b",)),)


def test_targets_and_provider_decode():
    made = spec(
        "AuthorizationPolicy",
        "action: CUSTOM\nprovider: {name: opa}\nrules: [{}]\n"
        "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: web}]",
    )
    assert made.provider.name == "opa"
    assert made.target_refs == (TargetRef(group="gateway.networking.k8s.io", kind="Gateway", name="web"),)
    assert spec("AuthorizationPolicy", "{}").action == "ALLOW"
