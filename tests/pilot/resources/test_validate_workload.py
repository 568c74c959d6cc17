from tests.pilot.faults import warnings


def test_an_entry_without_address_is_doubtful():
    assert warnings("WorkloadEntry", "network: n") == ["address"]
