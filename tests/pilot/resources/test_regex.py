from pilot.resources.regex import MAX_LENGTH, regex_fault


def test_what_re2_takes():
    assert regex_fault("^a.*b$") is None
    assert regex_fault("a" * MAX_LENGTH) is None


def test_what_it_refuses():
    what, remedy = regex_fault("[")
    assert "missing ]" in what
    assert "RE2" in remedy
    assert regex_fault("(?=a)")
    assert "longer" in regex_fault("a" * (MAX_LENGTH + 1))[0]
