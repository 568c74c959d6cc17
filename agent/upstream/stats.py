"""Counters and gauges of one cluster, under the names that Envoy gives them.

The pool, the limits and the outlier detection count here where it happens; what a finished exchange tells by
itself (codes, retries, timeouts) is counted by agent/exchange/stats.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesh.telemetry.metrics import Counter, Gauge, Labels, Merge, Registry

_COUNTERS: Final = {
    "upstream_cx_total": "Connections made or tried.",
    "upstream_cx_connect_fail": "Connections that could not be made.",
    "upstream_cx_connect_timeout": "Connections that were not made within the connect timeout.",
    "upstream_cx_overflow": "Times that the limit of connections was hit.",
    "upstream_cx_none_healthy": "Requests that found no healthy endpoint.",
    "upstream_cx_idle_timeout": "Connections closed because they were idle.",
    "upstream_cx_max_requests": "Connections closed because they had carried their share of requests.",
    "upstream_cx_max_duration_reached": "Connections closed because they were old.",
    "upstream_cx_destroy_remote_with_active_rq": "Connections that the endpoint closed under a request.",
    "upstream_cx_protocol_error": "Connections closed because the endpoint broke the protocol.",
    "upstream_rq_total": "Requests sent, every try counted.",
    "upstream_rq_pending_overflow": "Requests refused because of the limit of pending or active requests.",
    "upstream_rq_timeout": "Requests that hit the route's timeout.",
    "upstream_rq_per_try_timeout": "Tries that hit the timeout of one try.",
    "upstream_rq_retry": "Tries after the first.",
    "upstream_rq_retry_success": "Requests that a retry healed.",
    "upstream_rq_retry_overflow": "Retries refused because of the limit of retries.",
    "upstream_rq_retry_limit_exceeded": "Requests that failed after their last retry.",
    "retry_or_shadow_abandoned": "Retries refused because the request's body had not all been kept.",
    "upstream_rq_rx_reset": "Requests that the endpoint reset.",
    "upstream_rq_tx_reset": "Requests that the proxy reset.",
    "outlier_detection_ejections_enforced_total": "Endpoints ejected.",
    "outlier_detection_ejections_overflow": "Ejections refused because of the highest share of ejected endpoints.",
    "outlier_detection_ejections_enforced_consecutive_5xx": "Endpoints ejected for 5xx in a row.",
    "outlier_detection_ejections_enforced_consecutive_gateway_failure": "Endpoints ejected for 502, 503, 504 in a row.",
    "outlier_detection_ejections_enforced_consecutive_local_origin_failure": "Endpoints ejected for failed connects.",
    "health_check_attempt": "Active health checks made.",
    "health_check_success": "Active health checks that succeeded.",
    "health_check_failure": "Active health checks that failed.",
    "update_success": "Changes of the endpoints that were taken.",
}
_GAUGES: Final = {
    "upstream_cx_active": "Connections open now.",
    "upstream_rq_active": "Requests under way now.",
    "upstream_rq_pending_active": "Requests that wait for a connection now.",
    "outlier_detection_ejections_active": "Endpoints ejected now.",
    "membership_total": "Endpoints known.",
    "membership_healthy": "Endpoints that may be picked.",
}
# Workers of one agent see the same endpoints.
_MERGES: Final[dict[str, Merge]] = {
    "outlier_detection_ejections_active": "max",
    "membership_total": "max",
    "membership_healthy": "min",
}


class ClusterStats:
    """Attributes are named as in Envoy's `cluster.<name>.<attribute>` and exposed as `envoy_cluster_<attribute>`.

    A series is born when its attribute is first read, so a cluster without traffic costs nothing.
    """

    if TYPE_CHECKING:
        upstream_cx_total: Counter
        upstream_cx_connect_fail: Counter
        upstream_cx_connect_timeout: Counter
        upstream_cx_overflow: Counter
        upstream_cx_none_healthy: Counter
        upstream_cx_idle_timeout: Counter
        upstream_cx_max_requests: Counter
        upstream_cx_max_duration_reached: Counter
        upstream_cx_destroy_remote_with_active_rq: Counter
        upstream_cx_protocol_error: Counter
        upstream_rq_total: Counter
        upstream_rq_pending_overflow: Counter
        upstream_rq_timeout: Counter
        upstream_rq_per_try_timeout: Counter
        upstream_rq_retry: Counter
        upstream_rq_retry_success: Counter
        upstream_rq_retry_overflow: Counter
        retry_or_shadow_abandoned: Counter
        upstream_rq_retry_limit_exceeded: Counter
        upstream_rq_rx_reset: Counter
        upstream_rq_tx_reset: Counter
        outlier_detection_ejections_enforced_total: Counter
        outlier_detection_ejections_overflow: Counter
        outlier_detection_ejections_enforced_consecutive_5xx: Counter
        outlier_detection_ejections_enforced_consecutive_gateway_failure: Counter
        outlier_detection_ejections_enforced_consecutive_local_origin_failure: Counter
        health_check_attempt: Counter
        health_check_success: Counter
        health_check_failure: Counter
        update_success: Counter
        upstream_cx_active: Gauge
        upstream_rq_active: Gauge
        upstream_rq_pending_active: Gauge
        outlier_detection_ejections_active: Gauge
        membership_total: Gauge
        membership_healthy: Gauge

    def __init__(self, registry: Registry, name: str) -> None:
        self.name = name
        self._registry = registry
        self._labels: Labels = (("cluster_name", name),)
        self._codes: set[int] = set()

    def __getattr__(self, attribute: str) -> Counter | Gauge:
        series: Counter | Gauge
        if attribute in _COUNTERS:
            family = self._registry.counter(f"envoy_cluster_{attribute}", _COUNTERS[attribute])
            series = family.child(self._labels)
        elif attribute in _GAUGES:
            merge = _MERGES.get(attribute, "sum")
            gauge = self._registry.gauge(f"envoy_cluster_{attribute}", _GAUGES[attribute], merge=merge)
            series = gauge.child(self._labels)
        else:
            raise AttributeError(f"clusters have no statistic {attribute}")
        self.__dict__[attribute] = series
        return series

    def responses(self, code: int) -> tuple[Counter, Counter]:
        """The counters of responses with this status code and of its class."""
        self._codes.add(code)
        by_code = self._registry.counter("envoy_cluster_upstream_rq", "Responses by status code.")
        by_class = self._registry.counter("envoy_cluster_upstream_rq_xx", "Responses by class of status code.")
        return by_code.child(self._code(code)), by_class.child(self._class(code))

    def _code(self, code: int) -> Labels:
        return (("response_code", str(code)), *self._labels)

    def _class(self, code: int) -> Labels:
        return (("response_code_class", str(code // 100)), *self._labels)

    def forget(self) -> None:
        """Drop the series of a cluster that is gone."""
        for code in self._codes:
            self._registry.counter("envoy_cluster_upstream_rq", "").remove(self._code(code))
            self._registry.counter("envoy_cluster_upstream_rq_xx", "").remove(self._class(code))
        self._codes.clear()
        for attribute in self.__dict__.keys() & _COUNTERS.keys():
            self._registry.counter(f"envoy_cluster_{attribute}", "").remove(self._labels)
            del self.__dict__[attribute]
        for attribute in self.__dict__.keys() & _GAUGES.keys():
            self._registry.gauge(f"envoy_cluster_{attribute}", "").remove(self._labels)
            del self.__dict__[attribute]
