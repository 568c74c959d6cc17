"""Whether a request or connection is allowed: AuthorizationPolicies compiled for one chain, asked synchronously.

DENY before ALLOW; where there is an ALLOW policy, one must match. A condition that cannot be judged (unknown here,
broken, or about HTTP on an opaque connection) is never met in an ALLOW rule and left out of a DENY rule, so that it
never lets anything in. Knows nothing of listeners, sockets and answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Literal, NamedTuple, TypeAlias

from agent.codec.gate import path_of
from mesh import config
from mesh.net.authority import split_port

_Address: TypeAlias = tuple[int, int]
"""IP version and number."""
_HTTP_ONLY: Final = ("request.",)
_NO_HEADERS: Final[dict[bytes, bytes]] = {}


class Facts:
    """What policies may ask of one request on one connection; request fields stay empty for opaque bytes.

    Addresses are `IP:PORT`. `principal` has no `spiffe://`; the identity is empty without mutual TLS. `path` is
    the canonical one, query included; `headers` maps lower-case names to values, several lines joined with a comma,
    and `fields` has the lines one by one.
    """

    __slots__ = (
        "authority",
        "destination",
        "fields",
        "headers",
        "method",
        "namespace",
        "path",
        "principal",
        "remote",
        "service_account",
        "sni",
        "source",
        "trust_domain",
    )

    def __init__(
        self,
        source: str = "",
        destination: str = "",
        *,
        remote: str = "",
        principal: str = "",
        trust_domain: str = "",
        namespace: str = "",
        service_account: str = "",
        sni: str = "",
        method: bytes = b"",
        authority: bytes = b"",
        path: bytes = b"",
        headers: dict[bytes, bytes] = _NO_HEADERS,
        fields: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.source = source
        self.destination = destination
        self.remote = remote or source
        self.principal = principal
        self.trust_domain = trust_domain
        self.namespace = namespace
        self.service_account = service_account
        self.sni = sni
        self.method = method
        self.authority = authority
        self.path = path
        self.headers = headers
        self.fields = fields


class Verdict(NamedTuple):
    """`policy` (ns/name) and `rule` (its position) that decided; "" and -1 when none matched. `reason` is Envoy's
    response code detail, for the access log alone: it names the policy."""

    allowed: bool
    policy: str = ""
    rule: int = -1
    reason: str = ""


_Test: TypeAlias = Callable[[Facts], bool]
_ALLOWED: Final = Verdict(True)
_NO_MATCH: Final = Verdict(False, reason="rbac_access_denied_matched_policy[none]")


class Authz:
    """The compiled policies of a chain."""

    __slots__ = ("_allow", "_deny", "_must_match")

    def __init__(self, policies: Sequence[config.AuthzPolicy], *, http: bool, destination_port: int) -> None:
        self._deny = _compile_action(policies, "DENY", http, destination_port)
        self._allow = _compile_action(policies, "ALLOW", http, destination_port)
        self._must_match = any(policy.action == "ALLOW" for policy in policies)

    def check(self, facts: Facts) -> Verdict:
        """The first DENY rule that matches, else the first ALLOW rule, else what no match means."""
        for test, verdict in self._deny:
            if test(facts):
                return verdict
        if not self._must_match:
            return _ALLOWED
        for test, verdict in self._allow:
            if test(facts):
                return verdict
        return _NO_MATCH


def _compile_action(
    policies: Sequence[config.AuthzPolicy], action: Literal["ALLOW", "DENY"], http: bool, port: int
) -> tuple[tuple[_Test, Verdict], ...]:
    found = []
    for policy in policies:
        if policy.action != action:
            continue
        for position, rule in enumerate(policy.rules):
            test = _compile_rule(rule, deny=action == "DENY", http=http, port=port)
            if test is not None:
                found.append((test, _verdict(policy, position)))
    return tuple(found)


def _verdict(policy: config.AuthzPolicy, position: int) -> Verdict:
    name = f"{policy.namespace}/{policy.name}"
    if policy.action == "ALLOW":
        return Verdict(True, name, position)
    matched = f"ns[{policy.namespace}]-policy[{policy.name}]-rule[{position}]"
    return Verdict(False, name, position, f"rbac_access_denied_matched_policy[{matched}]")


def _compile_rule(rule: config.AuthzRule, *, deny: bool, http: bool, port: int) -> _Test | None:
    """None: it never matches. On an opaque connection one condition about HTTP takes the whole ALLOW rule away."""
    groups = (rule.sources, rule.operations, (rule.conditions,))
    if not http and not deny and any(c.attribute.startswith(_HTTP_ONLY) for g in groups for part in g for c in part):
        return None
    tests: list[_Test] = []
    for alternatives in groups:
        if not alternatives:
            continue
        compiled = [_compile_part(part, deny=deny, http=http, port=port) for part in alternatives]
        able = [part for part in compiled if part is not None]
        if not able:
            return None
        tests.append(able[0] if len(able) == 1 else _any(able))
    return _all(tests)


def _compile_part(part: Iterable[config.AuthzCondition], *, deny: bool, http: bool, port: int) -> _Test | None:
    tests = []
    for condition in part:
        judged = http or not condition.attribute.startswith(_HTTP_ONLY)
        test = _compile_condition(condition, port, deny=deny) if judged else None
        if test is not None:
            tests.append(_not(test) if condition.negated else test)
        elif not deny:
            return None
    return _all(tests)


def _all(tests: list[_Test]) -> _Test:
    if not tests:
        return lambda facts: True
    if len(tests) == 1:
        return tests[0]
    fixed = tuple(tests)
    if len(fixed) == 2:
        first, second = fixed
        return lambda facts: first(facts) and second(facts)
    return lambda facts: all(test(facts) for test in fixed)


def _any(tests: list[_Test]) -> _Test:
    fixed = tuple(tests)
    return lambda facts: any(test(facts) for test in fixed)


def _not(test: _Test) -> _Test:
    return lambda facts: not test(facts)


def _compile_condition(condition: config.AuthzCondition, port: int, *, deny: bool) -> _Test | None:
    """None: it cannot be judged here."""
    values = condition.values
    if condition.attribute == "request.header":
        return _header(condition.name, values, each_line=deny is not condition.negated)
    if condition.attribute == "destination.port":
        here = str(port) in values
        return lambda facts: here
    if condition.attribute.endswith(".ip"):
        return _address(condition.attribute, values)
    make = _ATTRIBUTES.get(condition.attribute)
    return make(values) if make is not None else None


# Texts


def _text(values: Iterable[str]) -> Callable[[str], bool]:
    exact, starts, ends, present = _sorted_out(values)
    if not starts and not ends and not present:
        return exact.__contains__
    return lambda text: text in exact or text.startswith(starts) or text.endswith(ends) or (present and bool(text))


def _bytes(values: Iterable[str]) -> Callable[[bytes], bool]:
    texts, prefixes, suffixes, present = _sorted_out(values)
    exact = frozenset(value.encode() for value in texts)
    starts = tuple(value.encode() for value in prefixes)
    ends = tuple(value.encode() for value in suffixes)
    if not ends and not present:
        return exact.__contains__ if not starts else lambda data: data in exact or data.startswith(starts)
    return lambda data: data in exact or data.startswith(starts) or data.endswith(ends) or (present and bool(data))


def _sorted_out(values: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...], tuple[str, ...], bool]:
    """Exact texts, prefixes, suffixes, and whether anything that is not empty will do."""
    exact, starts, ends, present = [], [], [], False
    for value in values:
        if value == "*":
            present = True
        elif value.startswith("*"):
            ends.append(value[1:])
        elif value.endswith("*"):
            starts.append(value[:-1])
        else:
            exact.append(value)
    return frozenset(exact), tuple(starts), tuple(ends), present


def _host(values: tuple[str, ...]) -> _Test:
    """In any case; a policy that names no port speaks of the host on every port."""
    fits = _bytes(value.lower() for value in values)

    def test(facts: Facts) -> bool:
        authority = facts.authority.lower()
        return fits(authority) or fits(split_port(authority)[0])

    return test


def _path(values: tuple[str, ...]) -> _Test:
    plain = _bytes(value for value in values if "{" not in value)
    templates = tuple(_template(value) for value in values if "{" in value)

    def test(facts: Facts) -> bool:
        path = path_of(facts.path)
        if plain(path):
            return True
        return bool(templates) and any(template(path) is not None for template in templates)

    return test


def _template(value: str) -> Callable[[bytes], object]:
    """{*}: one segment that is not empty; {**}: any number of segments (Envoy's URI templates)."""
    words = {"{*}": "[^/]+", "{**}": ".*"}
    segments = (words.get(segment) or re.escape(segment) for segment in value.split("/"))
    return re.compile("/".join(segments).encode(), re.DOTALL).fullmatch


def _method(values: tuple[str, ...]) -> _Test:
    fits = _bytes(values)
    return lambda facts: fits(facts.method)


def _header(name: str, values: tuple[str, ...], *, each_line: bool) -> _Test | None:
    """Envoy matches the joined value. Where a match denies, one line that fits is enough as well (`each_line`): an app
    may read any of them, so repeating a field must not hide it."""
    pseudo = {":authority": _host, "host": _host, ":method": _method, ":path": _whole_path}.get(name)
    if pseudo is not None:
        return pseudo(values)
    if name.startswith(":"):
        return None
    key = name.encode()
    if "*" in values:
        return lambda facts: key in facts.headers
    fits = _bytes(values)

    def joined(facts: Facts) -> bool:
        value = facts.headers.get(key)
        return value is not None and fits(value)

    def any_line(facts: Facts) -> bool:
        value = facts.headers.get(key)
        if value is None:
            return False
        if fits(value):
            return True
        return b", " in value and any(name.lower() == key and fits(line) for name, line in facts.fields)

    return any_line if each_line else joined


def _whole_path(values: tuple[str, ...]) -> _Test:
    fits = _bytes(values)
    return lambda facts: fits(facts.path)


# Peers


def _principal(values: tuple[str, ...]) -> _Test:
    fits = _text(values)
    return lambda facts: bool(facts.principal) and fits(facts.principal)


def _namespace(values: tuple[str, ...]) -> _Test:
    """A star may stand anywhere in a namespace."""
    fits = tuple(
        re.compile(".*".join(re.escape(piece) for piece in value.split("*")), re.DOTALL).fullmatch for value in values
    )
    return lambda facts: bool(facts.namespace) and any(fit(facts.namespace) is not None for fit in fits)


def _account(values: tuple[str, ...]) -> _Test:
    known = frozenset(values)
    return lambda facts: bool(facts.principal) and f"{facts.namespace}/{facts.service_account}" in known


def _trust_domain(values: tuple[str, ...]) -> _Test:
    fits = _text(values)
    return lambda facts: bool(facts.trust_domain) and fits(facts.trust_domain)


def _sni(values: tuple[str, ...]) -> _Test:
    fits = _text(values)
    return lambda facts: fits(facts.sni)


_ATTRIBUTES: Final[dict[str, Callable[[tuple[str, ...]], _Test]]] = {
    "source.principal": _principal,
    "source.namespace": _namespace,
    "source.serviceAccount": _account,
    "source.trustDomain": _trust_domain,
    "connection.sni": _sni,
    "request.host": _host,
    "request.method": _method,
    "request.path": _path,
}


# Addresses


def _address(attribute: str, values: tuple[str, ...]) -> _Test | None:
    ranges = []
    for value in values:
        try:
            network = ip_network(value, strict=False)
        except ValueError:
            return None
        ranges.append((network.version, int(network.network_address), int(network.broadcast_address)))
    read = {"source.ip": _source_ip, "remote.ip": _remote_ip, "destination.ip": _destination_ip}.get(attribute)
    if read is None:
        return None

    def test(facts: Facts) -> bool:
        found = read(facts)
        if found is None:
            return False
        kind, number = found
        return any(kind == version and low <= number <= high for version, low, high in ranges)

    return test


def _source_ip(facts: Facts) -> _Address | None:
    return parse_ip(facts.source)


def _destination_ip(facts: Facts) -> _Address | None:
    return parse_ip(facts.destination)


def _remote_ip(facts: Facts) -> _Address | None:
    """The client as the nearest hop saw it: the last of x-forwarded-for (at a gateway its own word), else as a PROXY
    header told, else the peer."""
    forwarded = facts.headers.get(b"x-forwarded-for")
    if forwarded is not None:
        found = parse_ip(forwarded.rpartition(b",")[2].strip().decode("latin-1"))
        if found is not None:
            return found
    return parse_ip(facts.remote)


@lru_cache(maxsize=4096)
def parse_ip(text: str) -> _Address | None:
    """IP, IP:PORT or [IP]:PORT as version and number; an IPv4 address mapped into IPv6 is the IPv4 one."""
    for candidate in (text, text.rpartition(":")[0]):
        try:
            address = ip_address(candidate.strip("[]"))
        except ValueError:
            continue
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address.version, int(address)
    return None
