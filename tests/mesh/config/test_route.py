from __future__ import annotations

import msgspec
import pytest

from mesh import config

ACTIONS = (
    config.RouteAction(
        clusters=(config.WeightedCluster("outbound|80|v1|a", 90), config.WeightedCluster("outbound|80|v2|a", 10)),
        timeout=3.0,
        retries=config.RetryPolicy(attempts=3, retry_on=("5xx",)),
        rewrite=config.Rewrite(prefix="/v2"),
    ),
    config.Redirect(status=302, scheme="https", port_from="protocol"),
    config.DirectResponse(status=503, body=b"\x00busy"),
)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
def test_each_action_is_told_apart_on_the_wire(
    action: config.RouteAction | config.Redirect | config.DirectResponse,
) -> None:
    match = config.RouteMatch(
        path=config.StringMatch("prefix", "/api", ignore_case=True),
        headers=(("end-user", config.StringMatch("exact", "jason")),),
    )
    fault = config.Fault(delay=config.FaultDelay(2.0, 100.0), abort=config.FaultAbort(status=503, percent=0.5))
    table = config.RouteConfig(
        "9080", (config.VirtualHost("a", ("a", "a.default"), (config.Route("r", match, action, fault=fault),)),)
    )
    assert config.decode_resource("route", config.encode(table)) == table


def test_retry_defaults_are_istios() -> None:
    retries = config.RetryPolicy()
    assert retries.attempts == 2
    assert retries.retry_on[0] == "connect-failure"
    assert retries.backoff_base == 0.025


def test_an_unknown_kind_of_match_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="kind"):
        msgspec.convert({"kind": "suffix", "value": "x"}, config.StringMatch)
