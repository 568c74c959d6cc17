"""Rules of a DestinationRule's loadBalancer: hashing, warm-up, locality."""

from __future__ import annotations

from collections.abc import Iterable

from pilot.resources.destination_rule import (
    ConsistentHash,
    Failover,
    LoadBalancerSettings,
    LocalityLbSetting,
    Warmup,
    ZoneAwareLbSetting,
)
from pilot.resources.report import Report
from pilot.resources.rules import check_duration, check_percent
from pilot.resources.yaml import Path

MAX_TABLE_SIZE = 5_000_011
"""Envoy's limit of a Maglev table."""
TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


def check_load_balancer(settings: LoadBalancerSettings, path: Path, report: Report, *, outlier: bool) -> None:
    """Report every broken rule; `outlier`: the same policy has outlier detection, which failover needs."""
    if settings.simple is not None and settings.consistent_hash is not None:
        report((*path, "consistentHash"), "cannot stand beside simple", "keep one of them")
    if settings.consistent_hash is not None:
        _check_hash(settings.consistent_hash, (*path, "consistentHash"), report)
    check_duration(settings.warmup_duration_secs, (*path, "warmupDurationSecs"), report)
    if settings.warmup is not None:
        if settings.warmup_duration_secs is not None:
            report((*path, "warmup"), "cannot stand beside warmupDurationSecs", "keep warmup")
        _check_warmup(settings.warmup, (*path, "warmup"), report)
    if settings.locality_lb_setting is not None:
        _check_locality(settings.locality_lb_setting, (*path, "localityLbSetting"), report, outlier)
    if settings.zone_aware_lb_setting is not None:
        _check_zone_aware(settings.zone_aware_lb_setting, (*path, "zoneAwareLbSetting"), report, outlier)


def _check_hash(settings: ConsistentHash, path: Path, report: Report) -> None:
    keys = {
        "httpHeaderName": settings.http_header_name,
        "httpCookie": settings.http_cookie,
        "useSourceIp": settings.use_source_ip,
        "httpQueryParameterName": settings.http_query_parameter_name,
    }
    given = [name for name, value in keys.items() if value is not None]
    for name in given[1:]:
        report((*path, name), f"cannot stand beside {given[0]}", "hash one thing")
    cookie = settings.http_cookie
    if cookie is not None:
        if not cookie.name:
            report((*path, "httpCookie", "name"), "is required", "name the cookie")
        names = [attribute.name for attribute in cookie.attributes]
        for index, name in enumerate(names):
            here = (*path, "httpCookie", "attributes", index, "name")
            if not name:
                report(here, "is required", "name the attribute")
            elif name in names[:index]:
                report(here, f"attribute {name} is given twice", "remove one")
    _check_tables(settings, path, report)


def _check_tables(settings: ConsistentHash, path: Path, report: Report) -> None:
    if settings.minimum_ring_size:
        report.warn((*path, "minimumRingSize"), "is deprecated", "write ringHash: {minimumRingSize: …}")
        if settings.ring_hash is not None or settings.maglev is not None:
            report((*path, "minimumRingSize"), "cannot stand beside ringHash or maglev", "remove it")
    if settings.ring_hash is not None and settings.maglev is not None:
        report((*path, "maglev"), "cannot stand beside ringHash", "keep one of them")
    if settings.maglev is not None:
        size = settings.maglev.table_size
        if size == 0 or size >= MAX_TABLE_SIZE or not _is_prime(size):
            what = f"{size} is not a prime below {MAX_TABLE_SIZE}"
            report((*path, "maglev", "tableSize"), what, "write for example 65537")


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _check_warmup(warmup: Warmup, path: Path, report: Report) -> None:
    if warmup.duration is None:
        report((*path, "duration"), "is required", "add it")
    check_duration(warmup.duration, (*path, "duration"), report)
    if warmup.minimum_percent is not None:
        check_percent(warmup.minimum_percent, (*path, "minimumPercent"), report)
    if warmup.aggression is not None and warmup.aggression <= 0:
        report((*path, "aggression"), f"{warmup.aggression:g} is not over 0", "write a number over 0")


def _check_locality(setting: LocalityLbSetting, path: Path, report: Report, outlier: bool) -> None:
    if setting.distribute and setting.failover:
        report((*path, "distribute"), "cannot stand beside failover", "keep one of them")
    elif setting.distribute and setting.failover_priority:
        report.warn((*path, "failoverPriority"), "has no effect beside distribute", "keep one of them")
    sources: list[str] = []
    for index, share in enumerate(setting.distribute):
        here = (*path, "distribute", index)
        _check_overlap(share.from_, sources, (*here, "from"), report)
        sources.append(share.from_)
        targets: list[str] = []
        for locality, weight in share.to.items():
            if not 1 <= weight <= 100:
                report((*here, "to", locality), f"the weight {weight} is out of range", "write 1 to 100")
            _check_overlap(locality, targets, (*here, "to", locality), report)
            targets.append(locality)
        if sum(share.to.values()) != 100:
            report((*here, "to"), f"the weights add up to {sum(share.to.values())}", "make it 100")
    _check_failover(setting.failover, (*path, "failover"), report)
    if setting.failover:
        for index, label in enumerate(setting.failover_priority):
            if label in TOPOLOGY:
                here = (*path, "failoverPriority", index)
                report(here, f"{label} cannot stand beside failover", "keep one of them")
    _warn_outlier(bool(setting.failover or setting.failover_priority), path, report, outlier)


def _warn_outlier(failover: bool, path: Path, report: Report, outlier: bool) -> None:
    if failover and not outlier:
        report.warn(path, "failover never happens without outlierDetection", "add outlierDetection")


def _check_overlap(locality: str, others: Iterable[str], path: Path, report: Report) -> None:
    """A locality behind one that covers it is never reached; a wider one behind a narrower catches the rest."""
    if locality.count("*") > 1 or ("*" in locality and not locality.endswith("*")):
        report(path, f'"{locality}" has a wildcard before its end', "write region/*, or region/zone/*")
        return
    parts = locality.split("/", 2)
    if not all(parts):
        report(path, f'"{locality}" has an empty part', "write region/zone/subzone, or leave the rest out")
        return
    for other in others:
        shared = zip(parts, other.split("/", 2), strict=False)
        if all(earlier in ("*", part) for part, earlier in shared):
            report(path, f"{locality} overlaps {other}", "keep one of them, or write the narrower one first")


def _check_failover(failover: tuple[Failover, ...], path: Path, report: Report) -> None:
    for index, item in enumerate(failover):
        here = (*path, index)
        if item.from_ == item.to:
            report((*here, "to"), f"{item.to} fails over to itself", "name another region")
        for name, region in (("from", item.from_), ("to", item.to)):
            if "/" in region or "*" in region:
                report((*here, name), f"{region} is not a region", "write the region alone")


def _check_zone_aware(setting: ZoneAwareLbSetting, path: Path, report: Report, outlier: bool) -> None:
    _check_failover(setting.failover, (*path, "failover"), report)
    for index, label in enumerate(setting.failover_priority):
        if label.partition("=")[0] in TOPOLOGY:
            here = (*path, "failoverPriority", index)
            report(here, f"{label} is taken care of by itself", "list other labels only")
    _warn_outlier(setting.enabled is not False, path, report, outlier)
