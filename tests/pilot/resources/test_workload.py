from tests.pilot.faults import spec


def test_every_field_decodes():
    made = spec(
        "WorkloadEntry",
        "address: 10.0.0.1\nports: {http: 80}\nlabels: {a: b}\nnetwork: n\nlocality: r/z\nweight: 2\nserviceAccount: s",
    )
    assert (made.address, made.ports, made.weight, made.service_account) == ("10.0.0.1", {"http": 80}, 2, "s")
