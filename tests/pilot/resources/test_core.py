from pilot.resources.core import ContainerPort, EndpointPort, ServicePort
from pilot.resources.registry import load


def one(text):
    loaded = load(text, "f.yaml")
    assert not loaded.errors, [str(e) for e in loaded.errors]
    (obj,) = loaded.objects
    return obj


def test_service():
    obj = one(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  clusterIP: None\n  clusterIPs: [None]\n"
        "  selector: {app: a}\n"
        "  ports: [{name: http, port: 80, targetPort: web}, {name: g, port: 81, targetPort: 82}]\n"
        "  externalIPs: [1.2.3.4]\n  sessionAffinity: ClientIP\n"
    )
    assert obj.spec.cluster_ip == "None"
    assert obj.spec.external_ips == ("1.2.3.4",)
    assert obj.spec.ports == (
        ServicePort(port=80, name="http", target_port="web"),
        ServicePort(port=81, name="g", target_port=82),
    )


def test_endpoint_slice():
    obj = one(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
        "metadata: {name: s, labels: {kubernetes.io/service-name: s}}\n"
        "endpoints: [{addresses: [10.0.0.1], conditions: {ready: false}, targetRef: {kind: Pod, name: p}, zone: z}]\n"
        "ports: [{name: http, port: 8080, protocol: TCP}]\n"
    )
    assert obj.meta.labels == {"kubernetes.io/service-name": "s"}
    assert obj.spec.ports == (EndpointPort(name="http", port=8080),)
    assert obj.spec.endpoints[0].conditions.ready is False
    assert obj.spec.endpoints[0].target_ref.name == "p"


def test_endpoints():
    obj = one(
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: s}\n"
        "subsets: [{addresses: [{ip: 10.0.0.1}], notReadyAddresses: [{ip: 10.0.0.2}], ports: [{port: 80}]}]\n"
    )
    assert obj.spec.subsets[0].not_ready_addresses[0].ip == "10.0.0.2"


def test_controllers_have_pod_templates():
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        obj = one(
            f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: d}}\nspec:\n  replicas: 2\n"
            "  selector: {matchLabels: {app: a}, matchExpressions: [{key: b, operator: Exists}]}\n"
            "  template:\n    metadata: {labels: {app: a}}\n    spec:\n      serviceAccountName: sa\n"
            "      containers: [{name: c, image: i, ports: [{containerPort: 80, name: http}]}]\n"
        )
        assert obj.spec.template.metadata.labels == {"app": "a"}
        assert obj.spec.template.spec.containers[0].ports == (ContainerPort(container_port=80, name="http"),)
        assert obj.spec.selector.match_expressions[0].operator == "Exists"


def test_secrets_and_config_maps_are_whole_documents():
    secret = one("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls\ndata: {tls.crt: YQ==}\n")
    assert (secret.spec.type, secret.spec.data) == ("kubernetes.io/tls", {"tls.crt": "YQ=="})
    assert one("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n").spec.data == {"a": "b"}
    assert one("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: c}\nsecrets: []\n").key[0] == "ServiceAccount"
