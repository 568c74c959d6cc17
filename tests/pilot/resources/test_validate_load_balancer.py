import pytest

from tests.pilot.faults import paths, warnings


def broken(balancer):
    found = paths("DestinationRule", f"host: a\ntrafficPolicy: {{loadBalancer: {balancer}, outlierDetection: {{}}}}")
    return [p.removeprefix("trafficPolicy.loadBalancer.") for p in found]


@pytest.mark.parametrize(
    ("balancer", "expected"),
    [
        ("{simple: RANDOM, consistentHash: {useSourceIp: true}}", ["consistentHash"]),
        ("{consistentHash: {useSourceIp: true, httpHeaderName: a}}", ["consistentHash.useSourceIp"]),
        (
            "{consistentHash: {httpCookie: {name: '', attributes: [{name: ''}, {name: a}, {name: a}]}}}",
            [
                "consistentHash.httpCookie.name",
                "consistentHash.httpCookie.attributes[0].name",
                "consistentHash.httpCookie.attributes[2].name",
            ],
        ),
        ("{consistentHash: {useSourceIp: true, maglev: {tableSize: 1000}}}", ["consistentHash.maglev.tableSize"]),
        ("{consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}", ["consistentHash.maglev.tableSize"]),
        ("{consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}}", []),
        (
            "{consistentHash: {useSourceIp: true, ringHash: {}, maglev: {tableSize: 65537}, minimumRingSize: 5}}",
            ["consistentHash.minimumRingSize", "consistentHash.maglev"],
        ),
        ("{warmup: {}}", ["warmup.duration"]),
        (
            "{warmupDurationSecs: 0s, warmup: {duration: 1us, minimumPercent: 101, aggression: 0}}",
            ["warmupDurationSecs", "warmup", "warmup.duration", "warmup.minimumPercent", "warmup.aggression"],
        ),
        (
            "{localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}}",
            ["localityLbSetting.distribute"],
        ),
        (
            "{localityLbSetting: {distribute: [{to: {b: 0, c: 101}}]}}",
            [
                "localityLbSetting.distribute[0].from",
                "localityLbSetting.distribute[0].to.b",
                "localityLbSetting.distribute[0].to.c",
                "localityLbSetting.distribute[0].to",
            ],
        ),
        (
            "{localityLbSetting: {distribute: [{from: a/*, to: {a/b: 50, a/*: 50}}, "
            "{from: a/c, to: {c: 50, c/d: 50}}]}}",
            ["localityLbSetting.distribute[1].from", 'localityLbSetting.distribute[1].to["c/d"]'],
        ),
        ("{localityLbSetting: {distribute: [{from: 'a//b', to: {b: 100}}]}}", ["localityLbSetting.distribute[0].from"]),
        ("{localityLbSetting: {distribute: [{from: a/b, to: {b: 100}}, {from: a/*, to: {b: 100}}]}}", []),
        ("{localityLbSetting: {distribute: [{from: '*/a', to: {b: 100}}]}}", ["localityLbSetting.distribute[0].from"]),
        (
            "{localityLbSetting: {failover: [{from: a, to: a}, {from: a/b, to: 'c*'}]}}",
            [
                "localityLbSetting.failover[0].to",
                "localityLbSetting.failover[1].from",
                "localityLbSetting.failover[1].to",
            ],
        ),
        (
            "{localityLbSetting: {failover: [{from: a, to: b}], failoverPriority: [x, topology.kubernetes.io/region]}}",
            ["localityLbSetting.failoverPriority[1]"],
        ),
        (
            "{zoneAwareLbSetting: {failoverPriority: [topology.kubernetes.io/zone], failover: [{from: a, to: a}]}}",
            ["zoneAwareLbSetting.failover[0].to", "zoneAwareLbSetting.failoverPriority[0]"],
        ),
    ],
)
def test_rules(balancer, expected):
    assert broken(balancer) == expected


def test_failover_needs_outlier_detection():
    balancer = "localityLbSetting: {failoverPriority: [a]}, zoneAwareLbSetting: {}"
    assert warnings("DestinationRule", f"host: a\ntrafficPolicy: {{loadBalancer: {{{balancer}}}}}") == [
        "trafficPolicy.loadBalancer.localityLbSetting",
        "trafficPolicy.loadBalancer.zoneAwareLbSetting",
    ]
