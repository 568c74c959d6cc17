"""`meshctl demo --check`: the acceptance script. It drives a demo of its own from outside, as a visitor would.

The demo is a child process with folders of its own for state and pointer, so that a demo that runs beside is not
touched and what is left at the end can be told. Each step prints one line; the first that fails ends the script.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mesh.ctl import api, current, endpoints, leftovers, tour, traffic, volley
from mesh.ctl.demo import WORKLOADS, bookstore
from mesh.ctl.local_mesh import host_and_port
from mesh.ctl.processes import parse_ready, program_argv
from mesh.errors import MeshError

_START = 90.0
"""Seconds for the demo to serve; longer than it takes to give up, since it knows better what is missing."""
_SETTLE = 15.0
"""Seconds for a change to show; generous, since a slow machine is no fault."""
_LOOK_PAUSE = 0.1
_SHIFTED, _UNDISTURBED = 400, 500
_SIGMAS = 4
_REVIEWS = "/api/v1/products/0/reviews"
_VERSIONS = {version for service, version in WORKLOADS if service == "reviews"}
_AGENTS = len(WORKLOADS) + 1  # the gateway

_RULE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: [{name}], http: [{rule}]}}
"""


class CheckFailed(MeshError):
    """A step did not show what it must."""


def run_check() -> int:
    """Run all steps; 0 when every one passed, else 1."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trioweave-check-") as folder:
        check = Check(Path(folder))
        try:
            passed = all(_report(name, step) for name, step in check.steps())
        finally:
            check.end()
    print(f"{'all passed' if passed else 'failed'} after {time.monotonic() - began:.0f} s", flush=True)
    return 0 if passed else 1


def _report(name: str, step: Callable[[], str]) -> bool:
    began = time.monotonic()
    try:
        sign, text = "✓", step()
    except MeshError as exc:
        sign, text = "✗", str(exc)
    print(f"{sign} {name:<28} {text}  [{time.monotonic() - began:.1f} s]", flush=True)
    return sign == "✓"


class Check:
    """One demo and what was learnt of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "demo"
        self._folder.mkdir()
        self._output = folder / "output"
        self._demo: subprocess.Popen[bytes] | None = None
        self._gateway = ""
        self._pids: set[int] = set()

    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        """Names and steps, in order. A step returns what it saw, or raises MeshError."""
        return [
            ("start", self.start),
            ("page answers", self.page_answers),
            ("traffic by version", self.traffic_by_version),
            ("shift 50/50", self.shift),
            ("fault injection", self.fault),
            ("retry heals", self.retry_heals),
            ("ejection and return", self.ejection),
            ("pilot killed, traffic goes on", self.pilot_killed),
            ("pilot back, agents resume", self.pilot_back),
            ("Ctrl-C leaves nothing", self.interrupted),
        ]

    def start(self) -> str:
        """The demo reaches its ready line."""
        environment = {**os.environ, "TMPDIR": str(self._folder), "XDG_RUNTIME_DIR": str(self._folder)}
        began = time.monotonic()
        with self._output.open("wb") as output:
            self._demo = subprocess.Popen(
                [*program_argv("meshctl"), "demo", "--no-load"], stdout=output, stderr=output, env=environment
            )
        ready = _wait_ready(self._demo, self._output)
        self._gateway = host_and_port(ready["page"])
        return f"ready after {time.monotonic() - began:.1f} s at {ready['page']}"

    def page_answers(self) -> str:
        """The page has details and reviews."""
        reply = volley.ask(self._gateway, "/productpage")
        if reply.status != 200:
            raise CheckFailed(f"/productpage answers {volley.statuses([reply])}")
        for wanted in ("William Shakespeare", "Reviewer1", "Answered by reviews v"):
            if wanted not in reply.text:
                raise CheckFailed(f"the page lacks {wanted!r}")
        return f"{len(reply.text)} bytes with details and reviews"

    def traffic_by_version(self) -> str:
        """Every version gets its turn, and the page's sidecar counts it."""
        _all_well(volley.volley(self._gateway, _REVIEWS, 30))
        found = self._until(self._counts, lambda counts: counts.keys() >= _VERSIONS and sum(counts.values()) >= 30)
        return "the page's sidecar counted " + ", ".join(f"{count} to {name}" for name, count in found.items())

    def shift(self) -> str:
        """Half to v1, half to v3, within the luck of the draw."""
        self._apply((bookstore() / "samples" / "reviews-50-50.yaml").read_text(encoding="utf-8"))
        replies = volley.volley(self._gateway, _REVIEWS, _SHIFTED)
        _all_well(replies)
        seen = Counter(json.loads(reply.text)["version"] for reply in replies)
        deviation = abs(seen["v3"] - _SHIFTED / 2) / math.sqrt(_SHIFTED / 4)
        text = f"{seen['v1']} to v1 and {seen['v3']} to v3 of {_SHIFTED}: {deviation:.1f} standard deviations"
        if set(seen) != {"v1", "v3"} or deviation > _SIGMAS:
            raise CheckFailed(f"{text}; at most {_SIGMAS} are allowed, and other versions none (seen: {dict(seen)})")
        return text

    def fault(self) -> str:
        """An abort answers the asked status, and its removal ends it."""
        rule = "{fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, route: [{destination: {host: details}}]}"
        self._apply(_RULE.format(name="details", rule=rule))
        replies = volley.volley(self._gateway, "/api/v1/products/0", 20)
        self._delete("VirtualService", "details")
        if {reply.status for reply in replies} != {418}:
            raise CheckFailed(f"asked for 418, got {volley.statuses(replies)}")
        _all_well(volley.volley(self._gateway, "/api/v1/products/0", 20))
        return "20 of 20 requests got the asked 418, 20 of 20 got 200 once the rule was gone"

    def retry_heals(self) -> str:
        """v3 is broken, and nobody notices but v3's own sidecar."""
        self._apply((bookstore() / "samples" / "reviews-retry.yaml").read_text(encoding="utf-8"))
        self._post_to_v3("/break")
        replies = volley.volley(self._gateway, _REVIEWS, 30, callers=1)
        _all_well(replies)
        failed = self._until(self._failures_of_v3, lambda count: count > 0)
        return f"30 of 30 requests got 200 although reviews v3 answered 500 {failed} times"

    def ejection(self) -> str:
        """The broken instance is left out, and taken back once it is well."""
        self._until(self._v3_is_ejected, bool, poke=_REVIEWS)
        self._post_to_v3("/heal")
        began = time.monotonic()
        self._until(self._v3_is_ejected, lambda ejected: not ejected)
        return f"reviews v3 was ejected, and was back {time.monotonic() - began:.1f} s after it was healed"

    def pilot_killed(self) -> str:
        """500 requests without a failure while there is no pilot."""
        pilot = self._current().processes["pilot"].pid
        self._remember()
        os.kill(pilot, signal.SIGKILL)
        replies = volley.volley(self._gateway, _REVIEWS, _UNDISTURBED)
        _all_well(replies)
        return f"{len(replies)} of {len(replies)} requests got 200 after SIGKILL of process {pilot}"

    def pilot_back(self) -> str:
        """The agents come back to the new pilot and tell it what they have, instead of being told everything."""

        def sessions() -> tuple[int, int]:
            try:
                metrics = api.fetch(f"{self._current().dashboard}/metrics", timeout=2.0).decode()
            except MeshError:
                return 0, 0
            return _metric(metrics, "trioweave_resumed_sessions_total"), _metric(metrics, "trioweave_full_pushes_total")

        resumed, full = self._until(sessions, lambda found: sum(found) >= _AGENTS, within=2 * _SETTLE)
        if full:
            raise CheckFailed(f"{full} agents got a full push, {resumed} resumed")
        _all_well(volley.volley(self._gateway, _REVIEWS, 20))
        return f"{resumed} agents resumed, none needed a full push"

    def interrupted(self) -> str:
        """SIGINT ends everything that the demo started."""
        assert self._demo is not None
        self._remember()
        running = self._current()
        doors = [self._gateway, host_and_port(running.dashboard)]
        doors += [host_and_port(process.admin) for process in running.processes.values() if process.admin]
        began = time.monotonic()
        self._demo.send_signal(signal.SIGINT)
        try:
            status = self._demo.wait(_SETTLE)
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"the demo still runs {_SETTLE:g} s after Ctrl-C") from None
        took = time.monotonic() - began
        if left := leftovers.still_there(self._pids, doors, self._folder):
            raise CheckFailed("left behind: " + ", ".join(left))
        if status != 0:
            raise CheckFailed(f"the demo ended with status {status}")
        return f"{len(self._pids)} processes and {len(doors)} listeners gone after {took:.1f} s, no file left"

    def end(self) -> None:
        """End the demo, whatever state it is in."""
        if self._demo is not None and self._demo.poll() is None:
            self._demo.terminate()
            try:
                self._demo.wait(_SETTLE)
            except subprocess.TimeoutExpired:
                self._demo.kill()
                self._demo.wait(_SETTLE)

    def _current(self) -> current.Current:
        file = current.pointer_file(str(self._folder))
        return msgspec.json.decode(file.read_bytes(), type=current.Current)

    def _pilot(self) -> api.PilotApi:
        running = self._current()
        return api.PilotApi(current.find_pilot(running.dashboard, running.token_file))

    def _apply(self, text: str) -> None:
        _acknowledged(self._pilot().post("/api/apply", text.encode(), wait=_SETTLE))

    def _delete(self, kind: str, name: str) -> None:
        query = {"kind": kind, "namespace": "default", "name": name}
        _acknowledged(self._pilot().post("/api/delete", b"", wait=_SETTLE, **query))

    def _counts(self) -> dict[str, int]:
        return traffic.by_version(traffic.counts(self._current().processes["productpage-v1"].admin), "reviews")

    def _failures_of_v3(self) -> int:
        counts = traffic.counts(self._current().processes["reviews-v3"].admin, "destination")
        return sum(count.requests for count in counts if count.code.startswith("5"))

    def _v3_is_ejected(self) -> bool:
        seen = endpoints.endpoints(self._current().processes["productpage-v1"].admin)
        return any(each.ejected for each in seen if (each.service, each.version) == ("reviews", "v3"))

    def _post_to_v3(self, path: str) -> None:
        port = self._current().processes["reviews-v3"].app_port
        reply = volley.ask(f"127.0.0.1:{port}", path, method="POST")
        if reply.status != 200:
            raise CheckFailed(f"{tour.post(f'http://127.0.0.1:{port}{path}')}: {volley.statuses([reply])}")

    def _remember(self) -> None:
        assert self._demo is not None
        self._pids |= leftovers.descendants(self._demo.pid) | {
            process.pid for process in self._current().processes.values()
        }

    def _until(
        self, look: Callable[[], Any], is_so: Callable[[Any], bool], *, within: float = _SETTLE, poke: str = ""
    ) -> Any:
        """Look until it is so; with `poke` a request to that path goes before every look."""
        deadline = time.monotonic() + within
        while True:
            if poke:
                volley.ask(self._gateway, poke)
            if is_so(found := look()):
                return found
            if time.monotonic() > deadline:
                raise CheckFailed(f"not so within {within:g} s; last seen: {found}")
            time.sleep(_LOOK_PAUSE)


def _wait_ready(demo: subprocess.Popen[bytes], output: Path) -> dict[str, str]:
    deadline = time.monotonic() + _START
    while True:
        ended = demo.poll() is not None
        said = output.read_text(encoding="utf-8", errors="replace")
        for line in said.splitlines():
            if ready := parse_ready(line):
                return ready
        words = " / ".join(said.split("\n")).strip() or "no word"
        if ended:
            raise CheckFailed(f"the demo ended with status {demo.returncode}: {words}")
        if time.monotonic() > deadline:
            raise CheckFailed(f"not ready after {_START:g} s: {words}")
        time.sleep(_LOOK_PAUSE)


def _all_well(replies: list[volley.Reply]) -> None:
    if any(reply.status != 200 for reply in replies):
        raise CheckFailed(f"asked for 200 only, got {volley.statuses(replies)}")


def _acknowledged(answer: dict[str, Any]) -> None:
    if answer["waiting"] or answer["nacked"]:
        raise CheckFailed(f"not acknowledged by {answer['waiting']}; refused: {answer['nacked']}")


def _metric(text: str, name: str) -> int:
    found = re.search(rf"^{name} ([0-9.e+]+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0
