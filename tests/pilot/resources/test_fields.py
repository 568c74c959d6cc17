from pilot.resources.fields import Count, Int32, NonEmptyMap, Percentage, Text, UInt32, UInt64


def test_ranges_are_those_of_protocol_buffers():
    assert (Int32.__metadata__[0].ge, Int32.__metadata__[0].le) == (-(2**31), 2**31 - 1)
    assert (UInt32.__metadata__[0].ge, UInt32.__metadata__[0].le) == (0, 2**32 - 1)
    assert UInt64.__metadata__[0].le == 2**64 - 1
    assert (Count.__metadata__[0].ge, Percentage.__metadata__[0].le) == (0, 100)
    assert Text.__metadata__[0].min_length == 1
    assert NonEmptyMap.min_length == 1
