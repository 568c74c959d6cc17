"""Contexts made of secrets: once, anew when a secret changes, and not at all when one is not there."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trio.testing

from agent.credentials import Credentials, Unusable
from mesh import config
from tests.rig import FakeLog, snapshot
from tests.tls_material import certificate, pair, roots, trust

SIMPLE = config.DownstreamTls("simple", ("web",))
MUTUAL = config.DownstreamTls("mutual", ("web",), "clients")
ORIGINATED = config.UpstreamTls("mutual", "a.test", certificate="me", trust="them")


def told(*resources: config.Resource, tls: config.DownstreamTls = SIMPLE) -> config.Snapshot:
    chain = config.FilterChain("https", "tls", tls=tls, http=config.HttpChain("web"))
    return snapshot(config.Listener("l", "gateway", chains=(chain,)), *resources)


@pytest.fixture
def credentials() -> Credentials:
    return Credentials(FakeLog())


def reason(credentials: Credentials, tls: config.DownstreamTls) -> str:
    with pytest.raises(Unusable) as refused:
        credentials.server_context(tls)
    return refused.value.reason


def test_all_connections_of_a_chain_share_a_context(credentials: Credentials) -> None:
    assert credentials.apply(told(certificate("web", "a.test"))) == []
    assert credentials.server_context(SIMPLE) is credentials.server_context(config.DownstreamTls("simple", ("web",)))


def test_a_context_outlives_pushes_until_its_secret_changes(credentials: Credentials) -> None:
    web = certificate("web", "a.test")
    credentials.apply(told(web, certificate("other", "b.test")))
    before = credentials.server_context(SIMPLE)
    credentials.apply(told(web, certificate("other", "b.test")))
    assert credentials.server_context(SIMPLE) is before
    credentials.apply(told(certificate("web", "a.test")))
    assert credentials.server_context(SIMPLE) is not before


def test_a_missing_secret_fails_its_own_chain(credentials: Credentials) -> None:
    assert credentials.apply(told(certificate("other", "b.test"))) == []
    assert reason(credentials, SIMPLE) == "secret_missing"
    assert isinstance(credentials.server_context(config.DownstreamTls("simple", ("other",))), ssl.SSLContext)
    credentials.apply(told(certificate("web", "a.test")))
    assert credentials.server_context(SIMPLE)


def test_a_secret_that_is_withdrawn_is_no_longer_used(credentials: Credentials) -> None:
    credentials.apply(told(certificate("web", "a.test")))
    credentials.apply(told())
    assert reason(credentials, SIMPLE) == "secret_missing"


@pytest.mark.parametrize(
    "broken",
    [
        config.Secret("web", "rubbish", "rubbish"),
        config.Secret("web", pair("a.test")[0], pair("a.test")[1]),
        config.Secret("web", pair("a.test")[0]),
        config.Secret("web", roots="rubbish"),
        config.Secret("web"),
    ],
    ids=["rubbish", "foreign key", "no key", "no roots", "empty"],
)
def test_a_broken_secret_is_refused_by_name(credentials: Credentials, broken: config.Secret) -> None:
    [rejected] = credentials.apply(told(broken))
    assert (rejected.kind, rejected.name) == ("secret", "web")
    assert rejected.reason
    assert "PRIVATE" not in rejected.reason


def test_mutual_needs_roots(credentials: Credentials) -> None:
    credentials.apply(told(certificate("web", "a.test"), tls=MUTUAL))
    assert reason(credentials, MUTUAL) == "secret_missing"
    credentials.apply(told(certificate("web", "a.test"), trust("clients"), tls=MUTUAL))
    assert credentials.server_context(MUTUAL).verify_mode is ssl.CERT_REQUIRED


def test_a_key_where_a_certificate_should_be(credentials: Credentials) -> None:
    credentials.apply(told(trust("web")))
    assert reason(credentials, SIMPLE) == "secret_unusable"


def test_unknown_ciphers_cost_the_chain_alone(credentials: Credentials) -> None:
    tls = config.DownstreamTls("simple", ("web",), ciphers=("NO-SUCH-CIPHER",))
    assert credentials.apply(told(certificate("web", "a.test"), tls=tls)) == []
    assert reason(credentials, tls) == "context_unusable"


def test_settings_reach_the_context(credentials: Credentials) -> None:
    tls = config.DownstreamTls(
        "simple", ("web",), min_version="TLSv1.3", ciphers=("ECDHE-RSA-AES128-GCM-SHA256",), alpn=("h2",)
    )
    credentials.apply(told(certificate("web", "a.test"), tls=tls))
    made = credentials.server_context(tls)
    assert made.minimum_version is ssl.TLSVersion.TLSv1_3
    old = [each["name"] for each in made.get_ciphers() if each["protocol"] != "TLSv1.3"]
    assert old == ["ECDHE-RSA-AES128-GCM-SHA256"]


def test_originated_tls(credentials: Credentials) -> None:
    cluster = config.Cluster("c", tls=ORIGINATED)
    credentials.apply(snapshot(cluster, certificate("me", "me.test"), trust("them")))
    made = credentials.client_context(ORIGINATED, ("h2",))
    assert made is credentials.client_context(ORIGINATED, ("h2",))
    assert made is not credentials.client_context(ORIGINATED, ("http/1.1",))
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert len(made.get_ca_certs()) == 1
    credentials.apply(snapshot(cluster, trust("them")))
    with pytest.raises(Unusable, match="secret me is not there"):
        credentials.client_context(ORIGINATED, ("h2",))


def test_originated_tls_that_trusts_anybody(credentials: Credentials) -> None:
    made = credentials.client_context(config.UpstreamTls("simple", skip_verify=True, verify_host=True), ())
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_NONE, False)


# Files


def in_files(folder: Path) -> config.Secret:
    return config.Secret("web", certificate_file=str(folder / "a.pem"), key_file=str(folder / "a.key"))


def write(folder: Path, *hosts: str) -> None:
    chain, key = pair(*hosts)
    (folder / "a.pem").write_text(chain)
    (folder / "a.key").write_text(key)


async def test_files_are_read_and_read_again(credentials: Credentials, tmp_path: Path) -> None:
    secret = in_files(tmp_path)
    assert credentials.apply(told(secret)) == [], "what is on the agent's disk is not the pilot's to mend"
    assert reason(credentials, SIMPLE) == "secret_missing"
    write(tmp_path, "a.test")
    await credentials.look_at_files()
    first = credentials.server_context(SIMPLE)
    await credentials.look_at_files()
    assert credentials.server_context(SIMPLE) is first
    write(tmp_path, "b.test")
    await credentials.look_at_files()
    second = credentials.server_context(SIMPLE)
    assert second is not first
    (tmp_path / "a.key").write_text("rubbish")
    await credentials.look_at_files()
    assert credentials.server_context(SIMPLE) is second


async def test_files_are_looked_at_for_as_long_as_the_agent_lives(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    read = trio.Event()

    class FakeListener(FakeLog):
        def info(self, event: str, /, **fields: object) -> None:
            read.set()

    credentials = Credentials(FakeListener())
    credentials.apply(told(in_files(tmp_path)))
    write(tmp_path, "a.test")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(credentials.keep_files)
        await read.wait()
        nursery.cancel_scope.cancel()
    assert credentials.server_context(SIMPLE)


async def test_files_of_roots(credentials: Credentials, tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_text(roots())
    secret = config.Secret("them", roots_file=str(tmp_path / "roots.pem"))
    tls = config.UpstreamTls("simple", "a.test", trust="them")
    credentials.apply(snapshot(config.Cluster("c", tls=tls), secret))
    assert len(credentials.client_context(tls, ()).get_ca_certs()) == 1
    [(_, material)] = credentials.secrets()
    assert material is not None
    assert material.roots == roots().encode()
