"""The page over HTTP, below `/rankone`, where Ray's dashboard looks for its Grafana.

Ray's Metrics tab, the cards of its Overview and every job's page frame one address of a Grafana each, once a Grafana
and a Prometheus say that they are well. This answers all of that with the curves of the runs. It is read-only.
Everything that is not its own is answered with 404 at once: the dashboard asks here first for whatever it is asked.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from rl.monitoring.dashboard.downsample import bin_means
from rl.monitoring.dashboard.page import page, plotly_script
from rl.monitoring.dashboard.store import RunRecord, RunStore
from rl.monitoring.dashboard.types import Row

PREFIX = "/rankone"
MOST_ROWS = 600
"""Most rows of a run's metrics that are sent to a page; the file of metrics has them all."""
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(store: RunStore) -> web.Application:
    """Return the page, its data, and the two answers that make Ray's dashboard show it."""
    routes = Routes(store)
    app = web.Application(middlewares=[only_ours])
    for path, handler in {
        "/": routes.page,
        "/page.js": routes.script,
        "/page.css": routes.style,
        "/plotly.js": routes.plotly,
        "/runs.json": routes.runs,
        "/runs/{run}.json": routes.run,
        "/runs/{run}/metrics.jsonl": routes.metrics,
        "/runs/{run}/adapter.zip": routes.adapter,
        "/sweeps/{job}.json": routes.sweep,
        "/d/rayDefaultDashboard/": routes.page,
        "/d-solo/rayDefaultDashboard/{name}": routes.page,
        "/api/health": routes.grafana_health,
        "/api/v1/query": routes.prometheus_health,
    }.items():
        app.router.add_get(PREFIX + path, handler)
    return app


@web.middleware
async def only_ours(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 404, not 405, where another server is to answer; forbid scripts and data from elsewhere."""
    if request.method not in ("GET", "HEAD"):
        return web.Response(status=404)
    response = await handler(request)
    response.headers.update(SECURITY)
    return response


class Routes:
    """The answers, one method an address."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    async def page(self, request: web.Request) -> web.Response:
        return web.Response(text=page("page.html"), content_type="text/html")

    async def script(self, request: web.Request) -> web.Response:
        return web.Response(text=page("page.js"), content_type="text/javascript")

    async def style(self, request: web.Request) -> web.Response:
        return web.Response(text=page("page.css"), content_type="text/css")

    async def plotly(self, request: web.Request) -> web.Response:
        headers = {"Cache-Control": "max-age=86400"}
        return web.Response(text=plotly_script(), content_type="text/javascript", headers=headers)

    async def runs(self, request: web.Request) -> web.Response:
        return _json(request, self._store.summaries())

    async def run(self, request: web.Request) -> web.Response:
        record = self._record(request)
        return _json(request, detail(self._store.rows(record.id), record.samples))

    async def metrics(self, request: web.Request) -> web.Response:
        record = self._record(request)
        text = "".join(json.dumps(row) + "\n" for row in self._store.rows(record.id))
        return web.Response(text=text, content_type="application/jsonl", headers=_named(f"{record.id}.jsonl"))

    async def adapter(self, request: web.Request) -> web.Response:
        record = self._record(request)
        packed = self._store.adapter_zip(record.id)
        if packed is None:
            raise web.HTTPConflict(text="this run has no adapter yet\n")
        return web.Response(body=packed, content_type="application/zip", headers=_named(f"{record.id}.zip"))

    async def sweep(self, request: web.Request) -> web.Response:
        kept = self._store.sweep_results(request.match_info["job"])
        if kept is None:
            raise web.HTTPGone(text="there is no such sweep, or none of its runs is done\n")
        return web.Response(body=kept, content_type="application/json")

    async def grafana_health(self, request: web.Request) -> web.Response:
        return _json(request, {"database": "ok", "version": "none: rankone's page is in Grafana's place"})

    async def prometheus_health(self, request: web.Request) -> web.Response:
        return _json(request, {"status": "success", "data": {"resultType": "vector", "result": []}})

    def _record(self, request: web.Request) -> RunRecord:
        """Return the run of the request. Raises HTTPGone, because a 404 would be passed on to Ray's dashboard."""
        record = self._store.record(request.match_info["run"])
        if record is None:
            raise web.HTTPGone(text="there is no such run\n")
        return record


def detail(rows: Sequence[Row], samples: Sequence[Row]) -> dict[str, Any]:
    """Return what the plots of one run need; `each` is how many steps a row is the mean of."""
    few, each = bin_means(rows, MOST_ROWS)
    return {"rows": few, "each": each, "samples": list(samples)}


def _json(request: web.Request, value: object) -> web.Response:
    """Answer with JSON, which is not sent again to a browser that has it."""
    # No NaN: it is no JSON, and one such number would blank the page.
    text = json.dumps(finite(value), allow_nan=False)
    tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(text=text, content_type="application/json", headers=headers)


def finite(value: object) -> object:
    """Return the same value with `None` for every number that JSON has no word for."""
    match value:
        case float() if value != value or value in (float("inf"), float("-inf")):
            return None
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case _:
            return value


def _named(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
