from pilot.resources.references import dangling
from pilot.resources.registry import load

RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec:
  hosts: [reviews]
  gateways: [mesh, gw, other/gw, ./gw, old.name.svc]
  http:
  - route:
    - destination: {host: reviews, subset: v9}
    - destination: {host: reviews.default}
      weight: 1
    mirror: {host: shadow}
    mirrors: []
  tcp:
  - route: [{destination: {host: a.example.com}}]
  tls:
  - match: [{sniHosts: [reviews]}]
    route: [{destination: {host: nobody}}]
"""
OTHERS = """
---
apiVersion: v1
kind: Service
metadata: {name: reviews}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec: {host: reviews, subsets: [{name: v1}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e}
spec: {hosts: ["*.example.com"]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec: {servers: [{hosts: ["*"], port: {number: 80, name: http, protocol: HTTP}}]}
"""


def warnings(text):
    return [(n.path.removeprefix("spec."), n.line) for n in dangling(load(text, "f.yaml").objects)]


def test_names_that_nobody_defines():
    assert warnings(RULES + OTHERS) == [
        ("http[0].route[0].destination.subset", 10),
        ("http[0].route[1].destination.host", 11),
        ("http[0].mirror.host", 13),
        ("tls[0].route[0].destination.host", 19),
        ("gateways[2]", 7),
    ]


def test_a_set_without_services_says_nothing():
    assert warnings(RULES) == []
