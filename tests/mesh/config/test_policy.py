from mesh import config


def test_policies_travel_with_their_chain():
    condition = config.AuthzCondition("request.header", ("a", "b*"), negated=True, name="x-a")
    rule = config.AuthzRule(sources=((condition,), ()), operations=((condition,),), conditions=(condition,))
    policy = config.AuthzPolicy("p", "default", "DENY", (rule,), config.Origin("AuthorizationPolicy", name="p"))
    chain = config.FilterChain("c", http=config.HttpChain("web"), policies=(policy,), destination_port=80)
    listener = config.Listener("in", "inbound", chains=(chain,))
    assert config.decode_resource("listener", config.encode(listener)) == listener


def test_a_chain_without_policies_is_written_as_before():
    assert b"polic" not in config.encode(config.FilterChain("c"))
