"""The page and Ray's own dashboard in a real browser, on a real head with a real run."""

import asyncio
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from helpers.cluster import Head, actors, free_port, quietly, until

from rl.monitoring.dashboard.server import application
from rl.monitoring.dashboard.store import RunStore
from rl.monitoring.dashboard.types import RunInfo, RunUpdate

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (Debian's package chromium)")
RAYS_OWN = ("/api/v0/platform_events", "/api/serve/")
"""Addresses that Ray 2.60's dashboard asks for and its head does not have, with or without us."""


@dataclass
class Seen:
    """A page that was opened, and what went wrong on it."""

    page: Any
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def traces(self, frame: Any = None, plot: str = "#accuracy") -> int:
        return (frame or self.page).locator(f"{plot} .scatterlayer .trace").count()

    def points(self, frame: Any = None) -> int:
        """On all curves of accuracy together."""
        script = "() => (document.getElementById('accuracy')?.data ?? []).reduce((n, t) => n + t.x.length, 0)"
        return (frame or self.page).evaluate(script)

    def frames(self, part: str) -> list[Any]:
        return [frame for frame in self.page.frames if part in frame.url]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Seen]]:
    """Opens an address, with a cluster's token; at the end no page may have had an error, or asked anybody but its own
    server."""
    opened: list[Seen] = []

    def opener(address: str, width: int = 1280, theme: str = "light", token: str = "") -> Seen:
        seen = Seen(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme))
        opened.append(seen)
        if token:
            seen.page.context.add_cookies([{"name": "ray-authentication-token", "value": token, "url": address}])
        home = "/".join(address.split("/")[:3])

        def heard(message: Any) -> None:
            if message.type == "error" and not any(own in message.location.get("url", "") for own in RAYS_OWN):
                seen.errors.append(f"{message.text} {message.location.get('url', '')}")

        def asked(request: Any) -> None:
            if not request.url.startswith((home, "data:", "blob:")):
                seen.foreign.append(request.url)

        seen.page.on("console", heard)
        seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
        seen.page.on("request", asked)
        seen.page.goto(address)
        return seen

    yield opener
    for seen in opened:
        seen.page.close()
        assert (seen.errors, seen.foreign) == ([], [])


@pytest.fixture(scope="module")
def job(head: Head) -> str:
    """A run that goes on all through this file."""
    job = head.submit_endless(**{"evaluate.every": "5"})
    until(lambda: (head.run_of(job) or {"step": 0})["step"] >= 10, 240)
    return job


def wait(seen: Seen, true: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, seen.errors or "it did not come"
        seen.page.wait_for_timeout(200)


def test_the_curve_is_there_and_moves_without_a_reload(head: Head, job: str, look: Callable[..., Seen]) -> None:
    seen = look(f"{head.dashboard}/rankone/", token=head.token)
    wait(seen, lambda: seen.points() >= 2)
    before = seen.points()
    wait(seen, lambda: seen.points() > before)
    assert seen.traces() >= sum(bool(run["curve"]) for run in head.runs()), "and the means of what differs by seed only"
    for plot in ("#reward", "#policy", "#phases", "#workers"):
        assert seen.traces(plot=plot) >= 1, plot
    assert seen.page.locator("#samples li").count() > 0
    assert job in seen.page.locator("#runs").inner_text()
    assert "This is not Grafana" in seen.page.locator("footer").inner_text()
    by_time = seen.page.locator("[data-axis=time]")
    by_time.click()
    wait(seen, lambda: "minutes" in seen.page.locator("#accuracy").inner_text())
    seen.page.locator("#accuracy .nsewdrag").hover()
    with seen.page.expect_download() as download:
        seen.page.get_by_text("metrics", exact=True).click()
    assert json.loads(Path(download.value.path()).read_text().splitlines()[0])["step"] == 0


def test_the_dashboard_asks_for_the_token_once(head: Head, job: str, look: Callable[..., Seen]) -> None:
    seen = look(f"{head.dashboard}/#/jobs")
    seen.page.locator("[role=dialog] input").fill(head.token)
    seen.page.locator("[role=dialog] input").press("Enter")
    wait(seen, lambda: job in seen.page.locator("body").inner_text())
    seen.errors.clear()  # what Ray's page had asked for before
    seen.page.goto(f"{head.dashboard}/rankone/")
    wait(seen, lambda: seen.points() >= 2)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_can_be_read_in_both_themes_and_on_a_phone(
    head: Head, job: str, look: Callable[..., Seen], theme: str, width: int
) -> None:
    seen = look(f"{head.dashboard}/rankone/", width=width, theme=theme, token=head.token)
    wait(seen, lambda: seen.points() >= 2)
    back, text = seen.page.evaluate(
        "() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color] }"
    )
    assert (_light(back), _light(text)) == ((True, False) if theme == "light" else (False, True))
    assert seen.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "nothing hangs out sideways"


@pytest.mark.parametrize(
    ("place", "frame", "least"), [("metrics", "/d/", 1), ("overview", "/d-solo/", 2), ("jobs/{job}", "/d-solo/", 1)]
)
def test_rays_own_pages_show_it(
    head: Head, job: str, look: Callable[..., Seen], place: str, frame: str, least: int
) -> None:
    seen = look(f"{head.dashboard}/#/{place.format(job=job)}", width=1400, token=head.token)

    def framed() -> list[int]:
        return [seen.points(one) for one in seen.frames(f"/rankone{frame}")]

    wait(seen, lambda: len(framed()) >= least and min(framed()) >= 2)
    before = framed()[0]
    wait(seen, lambda: framed()[0] > before)


def test_rays_dashboard_goes_on_without_the_page_and_the_page_comes_back(
    head: Head, job: str, look: Callable[..., Seen]
) -> None:
    (host,) = actors(head.directory, "DashboardActor")
    host.kill()
    seen = look(f"{head.dashboard}/#/jobs", token=head.token)
    wait(seen, lambda: job in seen.page.locator("body").inner_text())
    until(lambda: quietly(lambda: head.run_of(job)))
    seen.page.goto("about:blank")  # ends its questions, and hears what became of those of before
    seen.errors.clear()  # while it was gone, the frames of Ray's page were answered by Ray: not found
    page = look(f"{head.dashboard}/rankone/", token=head.token)
    wait(page, lambda: page.points() >= 2)
    assert head.rankone("stop", job).returncode == 0
    wait(page, lambda: "stopped" in page.page.locator("#runs").inner_text())


def test_a_page_that_is_opened_before_the_first_step_and_one_with_200_runs(
    tmp_path: Path, look: Callable[..., Seen]
) -> None:
    with served(tmp_path) as (store, address):
        seen = look(address + "/rankone/")
        wait(seen, lambda: "No run has reported yet" in seen.page.locator("#empty").inner_text())
        for i in range(200):  # every other one has the same name as the one before it
            run = store.register(
                RunInfo(f"sweep-{i // 2}", f"node:/runs/{i}", 100, {"rank": 1 + i % 8, "lr": 1e-5 * (1 + i)})
            )
            rows = [
                {"step": 10 * k, "time": 1e9 + 600 * k, "eval/accuracy": 0.8 - 0.7 / (1 + k * (1 + i % 5))}
                for k in range(10)
            ]
            store.apply(run, RunUpdate(0, rows))
        wait(seen, lambda: seen.page.locator("#runs tbody tr").count() == 200)
        assert seen.traces() == 200
        assert seen.points() == 2000, "an evaluation every ten minutes leaves no gap"
        seen.page.locator("#filter").fill("sweep-7-2")
        wait(seen, lambda: seen.page.locator("#runs tbody tr").count() == 1)
        took = seen.page.evaluate("() => { const t = performance.now(); draw(true); return performance.now() - t }")
        assert took < 3000, "milliseconds to draw everything again"


def test_a_sweep_has_a_legend_line_for_each_setting_and_supervised_runs_a_plot_of_their_own(
    tmp_path: Path, look: Callable[..., Seen]
) -> None:
    with served(tmp_path) as (store, address):
        for i in range(15):
            settings = {"rank": 2 ** (i // 3), "lr": 1e-3, "seed": i % 3}
            run = store.register(RunInfo(f"sweep-p{i:03d}", f"node:/runs/{i}", 20, settings, "job"))
            rows = [{"step": 10 * k, "time": 1e9 + k, "eval/accuracy": 0.2 * k + 0.01 * i} for k in range(3)]
            store.apply(run, RunUpdate(0, rows))
        seen = look(address + "/rankone/", theme="dark")
        legend = seen.page.locator("#accuracy .legend .legendtext")
        wait(seen, lambda: legend.count() == 5)
        assert legend.first.text_content() == "rank 16, 3 seeds", "the best first"
        assert seen.traces() == 15 + 5, "each run, and the mean of each setting"
        assert seen.page.locator("#loss-card").is_hidden()
        run = store.register(RunInfo("taught", "node:/taught", 20, {"rank": 1, "lr": 1e-3, "seed": 0}))
        store.apply(run, RunUpdate(0, [{"step": 10 * k, "time": 1e9 + k, "eval/log_loss": 4.0 - k} for k in range(3)]))
        wait(seen, lambda: seen.traces(plot="#loss") == 1)
        assert "2.000 nats" in seen.page.locator("#runs").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_episode_is_shown_turn_by_turn_as_text(tmp_path: Path, look: Callable[..., Seen], theme: str) -> None:
    turns = [
        {
            "role": "assistant",
            "content": '<tool_call>\n{"name": "python", "arguments": {"code": "2 + 3"}}\n</tool_call>',
        },
        {"role": "tool", "name": "python", "content": "<img src=x onerror=alert(1)>5"},
        {"role": "assistant", "content": "The sum is " + "5" * 900},
        {"role": "user", "content": "<b>Go on.</b>"},
    ]
    whole = {"step": 0, "split": "held_out", "question": "2 + 3 =", "answer": "5", "completion": "5", "reward": 0.0}
    samples = [
        whole | {"outcome": "correct"},
        whole | {"outcome": "truncated", "turns": turns, "ending": "turns"},
    ]
    with served(tmp_path) as (store, address):
        run = store.register(RunInfo("tool", "node:/tool", 20, {"rank": 1}))
        rows = [{"step": k, "time": 1e9 + k, "eval/accuracy": 0.2 * k} for k in range(3)]
        store.apply(run, RunUpdate(0, rows, samples))
        seen = look(address + "/rankone/", width=390 if theme == "dark" else 1280, theme=theme)
        shown = seen.page.locator("#samples li")
        wait(seen, lambda: shown.count() == 2)
        episode, completion = shown.nth(0), shown.nth(1)
        assert [pre.text_content() for pre in episode.locator("pre").all()] == [turn["content"] for turn in turns]
        roles = [pre.get_attribute("data-role") for pre in episode.locator("pre").all()]
        assert roles == [None, "tool python", None, "user"]
        assert "truncated 0 (ended: turns after 2 turns)" in episode.locator(".head").inner_text()
        assert [pre.text_content() for pre in completion.locator("pre").all()] == ["5"]
        assert seen.page.locator("#samples img, #samples b").count() == 0, "what a policy writes is text"
        lefts = [pre.bounding_box()["x"] for pre in episode.locator("pre").all()]
        assert lefts[1] > lefts[0] == lefts[2]
        assert seen.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        if directory := os.environ.get("SCREENSHOTS"):
            seen.page.locator("#samples").screenshot(path=f"{directory}/turns-{theme}.png")


@contextmanager
def served(directory: Path) -> Iterator[tuple[RunStore, str]]:
    """A store and its page, on a thread of their own: the browser's driver runs a loop in this one."""
    store, port, loop = RunStore(directory), free_port(), asyncio.new_event_loop()
    runner = web.AppRunner(application(store), access_log=None)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        yield store, f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _light(colour: str) -> bool:
    """Return True if an `rgb(r, g, b)` is nearer to white than to black."""
    return sum(int(part) for part in colour[4:-1].split(",")) > 3 * 128
