"""`meshctl proxy-status` and `proxy-config`: the agents that are connected, and what one of them was told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from mesh.ctl import api as calls
from mesh.ctl import current, tables
from mesh.ctl.api import PilotApi
from mesh.ctl.endpoints import endpoints
from mesh.ctl.pilot_option import with_pilot
from mesh.errors import MeshError

Rows = Sequence[tuple[str, ...]]
SECTIONS = ("listeners", "routes", "clusters", "endpoints", "secrets")
_LANES = ("cluster", "listener", "endpoints", "route")
_STATUS_COLUMNS = (
    *("NAME", "ROLE", "CLUSTERS", "LISTENERS", "ENDPOINTS", "ROUTES"),
    *("APP", "EJECTED", "CERT", "WORKERS", "VERSION"),
)


@click.command(epilog="Example: meshctl proxy-status -o json")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", help="How to print it.")
@with_pilot
def proxy_status_command(output: str, api: PilotApi) -> None:
    """Show every connected agent and whether it has acknowledged what the pilot knows.

    Exit status 1 when an agent refused something.
    """
    proxies = api.get("/api/proxies")
    if output == "json":
        click.echo(json.dumps(proxies, indent=2))
    else:
        now = time.time()  # noqa: TID251 - the program's own clock
        tables.show(_STATUS_COLUMNS, [_status_row(proxy, now) for proxy in proxies])
        for proxy in proxies:
            for nack in proxy["nacks"]:
                click.echo(f"{proxy['id']} refused {nack['kind']} {nack['name']}: {nack['reason']}", err=True)
    if any(proxy["nacks"] for proxy in proxies):
        raise click.exceptions.Exit(1)


def _status_row(proxy: dict[str, Any], now: float) -> tuple[str, ...]:
    lanes = [proxy["sync"].get(lane, {}).get("state", "-") for lane in _LANES]
    ejected = {(each["address"], each["port"]) for each in proxy.get("ejections", ())}
    expiry = proxy["certificate_expiry"]
    certificate = time_left(expiry - now) if expiry else "-"
    return (
        *(proxy["id"], proxy["role"], *lanes, proxy["health"] or "-"),
        *(str(len(ejected)), certificate, _workers(proxy), proxy["version"]),
    )


def _workers(proxy: dict[str, Any]) -> str:
    here, wanted = proxy.get("workers", 1), proxy.get("workers_wanted", 1)
    return str(here) if here == wanted else f"{here}/{wanted}"


def time_left(seconds: float) -> str:
    """Rounded down to the largest unit and the next: `23h59m`, `4m10s`, `12s`; `expired` when it is over."""
    if seconds <= 0:
        return "expired"
    days, rest = divmod(int(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


@click.command(epilog="Example: meshctl proxy-config endpoints productpage-v1")
@click.argument("section", type=click.Choice([*SECTIONS, "all"]))
@click.argument("pod")
@click.option("--admin", metavar="URL", help="The agent's admin URL; known for the mesh that runs here.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", help="How to print it.")
@with_pilot
def proxy_config_command(section: str, pod: str, admin: str | None, output: str, api: PilotApi) -> None:
    """Show listeners, routes, clusters, endpoints or secrets of one agent.

    POD is a name or the beginning of one that `proxy-status` shows, or a process of `meshctl demo` or `up`.
    What the agent itself has seen (ejected endpoints, certificates) is asked at its admin port.
    """
    admin = admin or admin_of(pod)
    wanted = SECTIONS if section == "all" else (section,)
    told: dict[str, Any] = {}
    if wanted != ("secrets",):
        told = api.get(f"/api/proxies/{find_proxy(api, pod, admin)}/config", kind="" if section == "all" else section)
    if "secrets" in wanted and (admin or section == "secrets"):
        told["secrets"] = _certificates(admin, pod)
    ejected = _ejected(admin) if admin and "endpoints" in wanted else {}
    if output == "json":
        for each in told.get("endpoints", []):
            for endpoint in each.get("endpoints", []):
                endpoint["ejected"] = ejected.get((each["cluster"], _address(endpoint)))
        click.echo(json.dumps(told if section == "all" else told[section], indent=2))
        return
    for name in wanted:
        if name in told:
            columns, rows = _VIEWS[name](told[name]) if name != "endpoints" else _endpoints(told[name], ejected)
            if section == "all":
                click.echo(name.upper())
            tables.show(columns, rows)


def admin_of(pod: str) -> str | None:
    """The admin URL of a process of the mesh that runs here, if it is one."""
    try:
        processes = current.read().processes
    except MeshError:
        return None
    names = [pod] if pod in processes else [name for name in processes if name.startswith(f"{pod}-")]
    return processes[names[0]].admin or None if len(names) == 1 else None


def find_proxy(api: PilotApi, pod: str, admin: str | None) -> str:
    """The id under which the pilot knows the agent. Raises MeshError when none or several fit."""
    if admin:
        return str(json.loads(calls.fetch(f"{admin}/server_info", whom="the agent"))["node"]["id"])
    ids = [str(proxy["id"]) for proxy in api.get("/api/proxies")]
    exact = [id for id in ids if pod in (id, id.partition("~")[2], id.partition("~")[2].partition(".")[0])]
    found = exact or [id for id in ids if id.partition("~")[2].startswith(pod)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise MeshError(f"no agent {pod} is connected; connected are: {', '.join(ids) or 'none'}")
    raise MeshError(f"{pod} is not enough to tell {', '.join(found)} apart; write more of the name")


def _ejected(admin: str) -> dict[tuple[str, str], bool]:
    found: dict[tuple[str, str], bool] = {}
    for seen in endpoints(admin):
        key = (seen.cluster, seen.address)
        # A cluster is listed once for each worker: ejected by one is worth telling.
        found[key] = found.get(key, False) or seen.ejected
    return found


def _certificates(admin: str | None, pod: str) -> list[Any]:
    if not admin:
        raise MeshError(f"the admin port of {pod} is not known; give --admin URL (the agent's ready line has it)")
    chains: list[Any] = json.loads(calls.fetch(f"{admin}/certs", whom="the agent"))["certificates"]
    return chains


def _listeners(listeners: list[dict[str, Any]]) -> tuple[tuple[str, ...], Rows]:
    rows = [
        (
            each["name"],
            each["direction"],
            f"{each.get('address', '127.0.0.1')}:{each.get('port', 0) or 'free'}",
            match,
            to,
        )
        for each in listeners
        for match, to in _chains(each)
    ]
    return ("NAME", "DIRECTION", "ADDRESS", "MATCH", "DESTINATION"), rows


def _chains(listener: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for chain in listener.get("chains", []):
        match = " ".join([chain.get("transport", "any"), *chain.get("server_names", [])])
        if http := chain.get("http"):
            yield match, f"route {http.get('route_config') or 'by port'}"
        else:
            clusters = chain.get("tcp", {}).get("clusters", [])
            yield match, ", ".join(f"{name} {weight}" for name, weight in clusters) or "refused"


def _routes(configs: list[dict[str, Any]]) -> tuple[tuple[str, ...], Rows]:
    rows = [
        (config["name"], ", ".join(host["domains"]), _match(route["match"]), _action(route), _origin(route))
        for config in configs
        for host in config.get("virtual_hosts", [])
        for route in host.get("routes", [])
    ]
    return ("NAME", "DOMAINS", "MATCH", "DESTINATION", "FROM"), rows


def _match(match: dict[str, Any]) -> str:
    words = [f"{path['kind']} {path.get('value', '')}" for path in [match.get("path")] if path]
    words += [f"{name} {value['kind']} {value.get('value', '')}".strip() for name, value in match.get("headers", [])]
    return ", ".join(words) or "any"


def _action(route: dict[str, Any]) -> str:
    action = route["action"]
    if action["type"] != "route":
        return f"{action['type']} {action.get('status', 301)}"
    text = ", ".join(f"{each['cluster']} {each.get('weight', 1)}" for each in action["clusters"])
    return text + (" with fault" if route.get("fault") else "")


def _origin(obj: dict[str, Any]) -> str:
    origin = obj.get("origin", {})
    return f"{origin['kind']}/{origin.get('namespace', '')}/{origin.get('name', '')}" if origin.get("kind") else "-"


def _clusters(clusters: list[dict[str, Any]]) -> tuple[tuple[str, ...], Rows]:
    rows = [
        (
            each.get("service") or each["name"],
            str(each.get("port") or "-"),
            each.get("subset") or "-",
            each["name"].partition("|")[0] if "|" in each["name"] else "-",
            each.get("discovery", "eds"),
            _origin(each),
        )
        for each in clusters
    ]
    return ("SERVICE", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"), rows


def _endpoints(lists: list[dict[str, Any]], ejected: dict[tuple[str, str], bool]) -> tuple[tuple[str, ...], Rows]:
    rows = []
    for each in lists:
        for endpoint in each.get("endpoints", []):
            seen = ejected.get((each["cluster"], _address(endpoint)))
            outlier = "-" if seen is None else "EJECTED" if seen else "ok"
            version = endpoint.get("workload", {}).get("version") or "-"
            rows.append((_address(endpoint), version, endpoint.get("health", "healthy"), outlier, each["cluster"]))
    return ("ENDPOINT", "VERSION", "STATUS", "OUTLIER CHECK", "CLUSTER"), rows


def _address(endpoint: dict[str, Any]) -> str:
    return f"{endpoint['address']}:{endpoint['port']}"


def _secrets(chains: list[dict[str, Any]]) -> tuple[tuple[str, ...], Rows]:
    rows = []
    for chain in chains:
        for kind, word in (("cert_chain", "certificate"), ("ca_cert", "root")):
            for each in chain[kind]:
                names = ", ".join(name["uri"] for name in each["subject_alt_names"]) or each.get("secret", "-")
                rows.append((word, names, each["serial_number"], each["valid_from"], each["expiration_time"]))
    return ("KIND", "IDENTITY", "SERIAL", "VALID FROM", "EXPIRES"), rows


_VIEWS: dict[str, Callable[[list[Any]], tuple[tuple[str, ...], Rows]]] = {
    "listeners": _listeners,
    "routes": _routes,
    "clusters": _clusters,
    "secrets": _secrets,
}
