from pilot.store.instances import Registration
from tests.pilot.worlds import deployment, istio, node, service, world

HOST = ("default", "reviews.default.svc.cluster.local")


def behind(made, host=HOST, port=9080):
    return made.index.instances[host].get(port, ())


def live(text, *nodes):
    made = world(text)
    for item in nodes:
        made, _ = made.with_workload(item)
    return made


def test_a_live_workload_stands_behind_the_port_whose_target_is_its_app_port():
    text = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 80, targetPort: 9080}, {name: admin, port: 81, targetPort: 9081}]
"""
    made = live(text, node("reviews", version="v2", account="sa"))
    (instance,) = behind(made, port=80)
    assert (instance.address, instance.port, instance.workload_port) == ("127.0.0.1", 4000, 9080)
    assert instance.sidecar
    assert instance.labels == {"app": "reviews", "version": "v2"}
    assert (instance.account, instance.health) == ("sa", "healthy")
    assert behind(made, port=81) == ()


def test_a_service_with_one_port_takes_the_workloads_port_whatever_its_number():
    (instance,) = behind(live(service("reviews", target=1234), node("reviews", port=5555)))
    assert instance.workload_port == 5555


def test_an_ill_workload_is_an_unhealthy_instance():
    made, _ = world(service("reviews")).with_workload(node("reviews"), healthy=False)
    assert [item.health for item in behind(made)] == ["unhealthy"]


def test_a_service_without_selector_takes_workloads_that_gave_its_name():
    text = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {ports: [{name: http, port: 9080}]}
"""
    assert len(behind(live(text, node("reviews"), node("other", sidecar_port=4001)))) == 1


def test_the_app_label_is_the_service_name_unless_given():
    assert Registration(node("reviews")).labels == {"app": "reviews"}
    assert Registration(node("reviews", app="x")).labels == {"app": "x"}
    assert Registration(node("")).labels == {}


def test_pod_templates_count_in_a_dry_run_only():
    text = service("reviews") + deployment("reviews-v1", app="reviews") + deployment("idle", app="reviews", replicas=0)
    assert behind(world(text)) == ()
    (instance,) = behind(world(text, dry_run=True))
    assert (instance.name, instance.account, instance.sidecar) == ("reviews-v1", "reviews", True)


def test_a_pod_template_may_opt_out_of_the_sidecar():
    text = service("reviews") + deployment("reviews-v1", app="reviews").replace(
        "version: v1", 'version: v1, sidecar.istio.io/inject: "false"'
    )
    assert [item.sidecar for item in behind(world(text, dry_run=True))] == [False]


def test_a_named_target_is_the_containers_port():
    text = service("reviews", 80).replace("port: 80", "port: 80, targetPort: web") + deployment("reviews")
    (instance,) = behind(world(text, dry_run=True), port=80)
    assert instance.port == 9080


def test_a_dry_runs_service_without_workloads_counts_as_healthy():
    (instance,) = behind(world(service("reviews"), dry_run=True))
    assert instance.stand_in


SLICE = """
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-1, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: true}, zone: z1}
- {addresses: [10.1.0.2], conditions: {ready: false}}
- {addresses: [10.1.0.3], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.1.0.4], targetRef: {kind: Pod, name: reviews-abc}}
ports: [{name: http, port: 8080}, {name: other, port: 1}]
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-abc, labels: {app: reviews, version: v3, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: r, containers: []}
status: {podIP: 10.1.0.4}
"""


def test_endpoint_slices_tell_addresses_and_health():
    found = behind(world(service("reviews") + SLICE))
    assert [(item.address, item.port, item.health) for item in found] == [
        ("10.1.0.1", 8080, "healthy"),
        ("10.1.0.2", 8080, "unhealthy"),
        ("10.1.0.3", 8080, "draining"),
        ("10.1.0.4", 8080, "healthy"),
    ]
    assert found[0].locality == "z1"
    assert not found[0].sidecar
    assert (found[3].name, found[3].account, found[3].sidecar) == ("reviews-abc", "r", True)


def entry(spec):
    return istio("ServiceEntry", "ext", f"  hosts: [ext.example.com]\n{spec}")


EXT = ("default", "ext.example.com")


def test_static_endpoints_of_a_service_entry_and_their_port_order():
    text = entry(
        """
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints:
  - {address: 10.0.0.1, weight: 3, locality: r/z, serviceAccount: sa, labels: {security.istio.io/tlsMode: istio}}
  - {address: 10.0.0.2, ports: {http: 9090}}
"""
    )
    one, two = behind(world(text), EXT, 80)
    assert (one.address, one.port, one.weight, one.locality, one.account, one.sidecar) == (
        "10.0.0.1",
        8080,
        3,
        "r/z",
        "sa",
        True,
    )
    assert (two.port, two.weight, two.sidecar) == (9090, 1, False)


def test_a_dns_entry_without_endpoints_is_its_own_host():
    text = entry("  resolution: DNS\n  ports: [{number: 443, name: tls, protocol: TLS}]")
    assert [item.address for item in behind(world(text), EXT, 443)] == ["ext.example.com"]


def test_an_entry_without_resolution_has_no_instances():
    assert behind(world(entry("  resolution: NONE\n  ports: [{number: 80, name: http}]")), EXT, 80) == ()


def test_a_workload_selector_picks_entries_live_workloads_and_pods():
    text = entry(
        """
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: vm}}
"""
    ) + istio("WorkloadEntry", "vm-1", "  address: 10.9.0.1\n  labels: {app: vm}")
    made = live(text, node("vm", port=80))
    assert [item.address for item in behind(made, EXT, 80)] == ["10.9.0.1", "127.0.0.1"]
    dry = world(text + deployment("vm"), dry_run=True)
    assert [item.name for item in behind(dry, EXT, 80)] == ["vm-1", "vm"]


def test_a_kubernetes_service_selects_workload_entries():
    text = service("reviews") + istio("WorkloadEntry", "vm-1", "  address: 10.9.0.1\n  labels: {app: reviews}")
    assert [item.address for item in behind(world(text))] == ["10.9.0.1"]


def test_an_external_name_with_ports_is_resolved_by_dns():
    text = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {type: ExternalName, externalName: example.com, ports: [{name: http, port: 9080}]}
"""
    assert [item.address for item in behind(world(text))] == ["example.com"]
