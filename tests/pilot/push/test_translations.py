"""Sharing among equal proxies."""

from mesh.feed.node import Node
from pilot.push.translations import Translated, Translations
from tests.feed_rig import cluster, node, snapshot


def test_equal_proxies_share_one_translation() -> None:
    shared = cluster("shared")

    def translate(each: Node) -> Translated:
        return Translated(snapshot(shared, cluster(each.service)), ("report of all", f"report of {each.service}"))

    translations = Translations(lambda each: each.service, translate)
    one, twin, other = node("1", service="a"), node("2", service="a"), node("3", service="b")
    assert translations.bundle(one) is translations.bundle(twin)
    assert translations.made == 1
    assert translations.bundle(other)["cluster", "shared"] is translations.bundle(one)["cluster", "shared"]
    assert translations.reports() == ["report of all", "report of a", "report of b"]
    assert translations.renew() == 1
    assert translations.bundle(one) == translations.bundle(twin)
    assert translations.made == 3
    translations.prune([other])
    assert translations.reports() == ["report of all", "report of b"]
