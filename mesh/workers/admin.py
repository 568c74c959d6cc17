"""The admin port of an agent with workers: the parent asks all of them and gives one answer.

What changes the proxy goes to all, `/explain` to one, statistics are summed, everything else is merged (merge.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
import trio

from mesh.errors import MeshError
from mesh.net.http import Request, Response
from mesh.net.loopback import foreign
from mesh.telemetry.families import FamilyData, dump, exposition
from mesh.telemetry.metrics import CONTENT_TYPE, Registry
from mesh.telemetry.stats_page import stats_format, stats_page
from mesh.workers.merge import Answers, merge_answers
from mesh.workers.scrapes import Scrapes
from mesh.workers.supervisor import Gone, Supervisor, Worker

Page: TypeAlias = Callable[[Request], Awaitable[Response]]

_FAMILIES = Request("GET", "/stats", {"format": "families"}, {})
_decode_families = msgspec.msgpack.Decoder(list[FamilyData]).decode


class Admin:
    """Pages over the workers of one supervisor; `registry` is the parent's own. `compile_full` as in stats_page."""

    def __init__(
        self, supervisor: Supervisor, registry: Registry, compile_full: Callable[[str], Callable[[bytes], bool]]
    ) -> None:
        self._supervisor = supervisor
        self._registry = registry
        self._compile_full = compile_full
        self._scrapes = Scrapes()
        self._scrape_bytes = registry.gauge("trioweave_scrape_bytes", "Size of the previous exposition.").child()
        self._started = trio.current_time()
        supervisor.on_death = lambda worker: self._scrapes.died(worker.index, worker.generation)
        self._pages: dict[tuple[str, str], Page] = {
            ("GET", "/explain"): self._explain,
            ("POST", "/quitquitquit"): self._quit,
            ("GET", "/ready"): self._ready,
            ("GET", "/server_info"): self._server_info,
            ("GET", "/stats"): self._stats,
            ("GET", "/stats/prometheus"): self._prometheus,
        }

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        if why := foreign(request):
            return _text(f"{why}\n", 403)
        method = "GET" if request.method == "HEAD" else request.method
        page = self._pages.get((method, request.path.rstrip("/")), self._merged)
        try:
            return await page(request)
        except MeshError as exc:
            return _text(f"{exc}\n", 400)

    async def _ask(self, request: Request) -> Answers:
        """What each worker that is there answers; one that is not is left out."""
        answers: dict[int, Response] = {}

        async def ask(worker: Worker) -> None:
            try:
                answers[worker.index] = await worker.ask(request)
            except Gone:
                return

        async with trio.open_nursery() as nursery:
            for worker in self._supervisor.workers:
                nursery.start_soon(ask, worker)
        return sorted(answers.items())

    async def _merged(self, request: Request) -> Response:
        return merge_answers(await self._ask(request))

    async def _explain(self, request: Request) -> Response:
        """They hold the same configuration, or will in a moment: one of them answers."""
        for worker in self._supervisor.workers:
            try:
                return await worker.ask(request)
            except Gone:
                continue
        return merge_answers([])

    async def _quit(self, request: Request) -> Response:
        self._supervisor.leave()
        return _text("OK\n")

    async def _ready(self, request: Request) -> Response:
        state = self._state()
        return _text(f"{state}\n", 200 if state == "LIVE" else 503)

    def _state(self) -> str:
        """LIVE from when all have served, while at least one does: the others' share is taken over or waits."""
        supervisor = self._supervisor
        if supervisor.leaving.is_set():
            return "DRAINING"
        serving = any(worker.ready is not None for worker in supervisor.workers)
        return "LIVE" if serving and supervisor.served.is_set() else "INITIALIZING"

    async def _server_info(self, request: Request) -> Response:
        """One worker's, with the whole's state and age, and each one's."""
        answers = [(index, response) for index, response in await self._ask(request) if response.status == 200]
        if not answers:
            return merge_answers([])
        told = {index: msgspec.json.decode(response.body) for index, response in answers}
        info = {
            **told[min(told)],
            "state": self._state(),
            "uptime_current_epoch": f"{int(trio.current_time() - self._started)}s",
            "workers": [
                {
                    "worker": worker.index,
                    "pid": worker.pid,
                    "state": told.get(worker.index, {}).get("state", "DEAD"),
                    "uptime_current_epoch": told.get(worker.index, {}).get("uptime_current_epoch", "0s"),
                }
                for worker in self._supervisor.workers
            ],
        }
        return Response(200, msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n", "application/json")

    async def _stats(self, request: Request) -> Response:
        if stats_format(request.query) == "prometheus":
            return await self._prometheus(request)
        return stats_page(await self._scrape(), request.query, self._compile_full)

    async def _prometheus(self, request: Request) -> Response:
        text = exposition(await self._scrape())
        self._scrape_bytes.set(len(text))
        return Response(200, text, CONTENT_TYPE)

    async def _scrape(self) -> list[FamilyData]:
        """Sums. Of a worker that does not answer, what it said before stands: counters do not go back."""

        async def scrape(worker: Worker) -> None:
            generation = worker.generation
            try:
                response = await worker.ask(_FAMILIES)
            except Gone:
                return
            self._scrapes.told(worker.index, generation, _decode_families(response.body))

        async with trio.open_nursery() as nursery:
            for worker in self._supervisor.workers:
                nursery.start_soon(scrape, worker)
        return self._scrapes.families(dump(self._registry))


def _text(text: str, status: int = 200) -> Response:
    return Response(status, text.encode("utf-8", "replace"))
