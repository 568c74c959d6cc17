from pilot.resources.meta import MatchLabels
from pilot.resources.proxy_config import ProxyConfig, ProxyImage
from tests.pilot.faults import spec


def test_every_field_decodes():
    made = spec(
        "ProxyConfig",
        "selector: {matchLabels: {app: a}}\nconcurrency: 0\nenvironmentVariables: {A: b}\nimage: {imageType: debug}",
    )
    assert made == ProxyConfig(
        selector=MatchLabels(match_labels={"app": "a"}),
        concurrency=0,
        environment_variables={"A": "b"},
        image=ProxyImage(image_type="debug"),
    )
