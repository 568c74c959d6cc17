from pilot.resources.registry import load

TEXT = """apiVersion: v1
kind: Service
metadata:
  name: a
  namespace: ns
spec:
  selector: {x.y: z}
  ports:
  - port: 80
"""


def test_an_object_knows_where_its_fields_stand():
    (obj,) = load(TEXT, "svc.yaml").objects
    assert obj.key == ("Service", "ns", "a")
    assert (obj.namespace, obj.name) == ("ns", "a")
    origin = obj.origin("spec.ports[0].port")
    assert (origin.kind, origin.namespace, origin.name) == ("Service", "ns", "a")
    assert (origin.file, origin.line, origin.field) == ("svc.yaml", 9, "spec.ports[0].port")
    assert obj.origin("spec.nothing").line == 6
    assert obj.origin(("spec", "selector", "x.y")).field == 'spec.selector["x.y"]'
    assert obj.origin().line == 1


def test_equality_is_content():
    (one,) = load(TEXT, "a.yaml").objects
    (two,) = load("# moved\n" + TEXT, "b.yaml").objects
    (three,) = load(TEXT.replace("80", "81"), "a.yaml").objects
    assert one == two
    assert one != three
