"""The built-in page over real HTTP: what it shows, whom it shows it to, what it keeps out."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, urlencode

import pytest

from coordinator import records as r
from coordinator.config import CoordinatorConfig, Web
from coordinator.pulse import Pulse
from coordinator.web import open_page, view
from coordinator.web.login import LOGIN_S
from coordinator.web.view import Sources
from reefleet.rpc.identity import create_authority, issue_server
from tests.coordinator.conftest import Run

MakeRun = Callable[..., Run]
TOKEN = "a-token-of-this-fleet"
HOSTILE = '"><img src=x onerror=alert(1)>'
ANYWHERE = "0.0.0.0"  # noqa: S104


@dataclass
class Answer:
    """What a browser got."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass
class Browser:
    """Plain requests to one page; `tls` trusts the fleet's authority."""

    port: int
    tls: ssl.SSLContext | None = None

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, "", headers)

    def ask(self, method: str, path: str, body: str, headers: dict[str, str]) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.tls is None:
            line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        else:
            line = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)
        try:
            line.request(method, path, body.encode(), given)
            answer = line.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read().decode())
        finally:
            line.close()


class Tags(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def serve() -> Iterator[Callable[..., Browser]]:
    """Serve the page over a run's store."""
    stops: list[Callable[[], None]] = []

    def start(
        run: Run,
        host: str = "127.0.0.1",
        names: tuple[str, ...] = (),
        trouble: Callable[[], str] = str,
        barriers: Mapping[str, str] = MappingProxyType({}),
    ) -> Browser:
        authority = create_authority("barn")
        pair = issue_server(*authority, ["127.0.0.1"])
        config = CoordinatorConfig(
            fleet="barn & co", rounds=run.policy, web=Web(host=host, port=0, names=names)
        )
        pulse = Pulse(run.store.is_member)
        sources = Sources(
            run.store,
            run.time.clock(),
            run.presence,
            pulse,
            trouble,
            lambda d: barriers.get(d.device_id, ""),
        )
        port, stop = open_page(sources, config, TOKEN, pair)
        stops.append(stop)
        trust = ssl.create_default_context(cadata=authority[0].decode())
        return Browser(port, trust if host == ANYWHERE else None)

    yield start
    for stop in stops:
        stop()


@pytest.fixture
def worked(a_run: MakeRun) -> Run:
    """Two devices, one closed round, a second one open with one update in and one refused."""
    run = a_run(2, 1, total=3)
    for closing in (True, False):
        run.rounds.advance()
        run.time.pass_s(12)
        run.push("a", seed=1)
        if closing:
            run.push("b", seed=2)
            run.rounds.advance()
    refusal = r.Refusal(2, "b", "0" * 64, f"too long {HOSTILE}", run.time.now)
    run.store.refuse(refusal, run.work("b").lease)
    return run


PATHS = ("/", "/devices", "/devices/a", "/rounds", "/rounds/1", "/rounds/2", "/versions")


def test_every_page_shows_the_run(worked: Run, serve: Callable[..., Browser]) -> None:
    browser = serve(worked)
    pages = {path: browser.get(path) for path in PATHS}
    assert {answer.status for answer in pages.values()} == {200}
    assert all("barn &amp; co" in answer.text for answer in pages.values())
    assert "Round 2 of 3 is open" in pages["/"].text
    assert "1 of 2 needed updates" in pages["/"].text
    assert 'aria-label="Training loss by round: 1.000 in round 1"' in pages["/"].text
    assert "depth 2, 8 bits, float32" in pages["/devices"].text
    assert "chosen for a test" in pages["/devices/a"].text
    assert "2 of 2" in pages["/rounds"].text
    assert "closed, quorum" in pages["/rounds/1"].text
    assert "too long" in pages["/rounds/2"].text
    assert "Version 1" in pages["/versions"].text


def test_a_run_that_does_not_go_on_says_why(worked: Run, serve: Callable[..., Browser]) -> None:
    browser = serve(worked, trouble=lambda: "the disk is full")
    assert "the disk is full" in browser.get("/").text


def test_what_keeps_a_device_from_work_is_said(worked: Run, serve: Callable[..., Browser]) -> None:
    browser = serve(worked, barriers={"a": "battery at 10 %, below 20 %"})
    assert "No work now:</strong> battery at 10 %" in browser.get("/devices/a").text
    assert "No work now" not in browser.get("/devices/b").text


def test_a_device_that_has_just_called_is_present(
    a_run: MakeRun, serve: Callable[..., Browser]
) -> None:
    run = a_run(2)
    assert run.store.device("a").last_seen_at is None
    text = serve(run).get("/devices/a").text
    assert "pill well" in text
    assert "pill away" not in text


def test_what_devices_say_of_themselves_stays_text(
    worked: Run, serve: Callable[..., Browser]
) -> None:
    device = worked.store.device("a")
    assert device is not None
    assert device.plan is not None
    profile = {"board": HOSTILE, "model": HOSTILE, "cpu": HOSTILE, "runtimes": {HOSTILE: HOSTILE}}
    plan = replace(device.plan, why=(HOSTILE,), codec="float32")
    worked.store.set_plan("a", profile, plan, "", device.bundle_key)
    worked.store.fail_bundle(device.bundle_key, HOSTILE)
    browser = serve(worked)
    for path in (*PATHS, f"/devices?q={quote(HOSTILE)}", f"/nowhere/{quote(HOSTILE)}"):
        text = browser.get(path).text
        assert not [tag for tag, _ in Tags(text).found if tag == "img"], path
    assert "&lt;img src=x" in browser.get("/devices/a").text


def test_a_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(
    worked: Run, serve: Callable[..., Browser]
) -> None:
    browser = serve(worked)
    for path in (*PATHS, "/nowhere"):
        answer = browser.get(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        for tag, given in Tags(answer.text).found:
            assert not {name for name in given if name.startswith("on") or name == "style"}
            if tag in {"script", "link", "img"}:
                assert str(given.get("src") or given.get("href")).startswith("/static/")
            assert tag != "style"


def test_style_script_and_icon_are_there(worked: Run, serve: Callable[..., Browser]) -> None:
    browser = serve(worked)
    asked = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', browser.get("/").text))
    assert len(asked) == 3
    assert {browser.get(path).status for path in asked} == {200}


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/devices/ghost",
        "/rounds/99",
        "/rounds/0",
        "/rounds/99999999999999999999",
        "/static/../app.py",
        "/static/%2e%2e%2fapp.py",
        "/devices?page=0",
        "/devices?page=x",
        "/devices?state=odd",
        "/login",
    ],
)
def test_what_is_not_there_says_so_and_leads_back(
    worked: Run, serve: Callable[..., Browser], path: str
) -> None:
    answer = serve(worked).get(path)
    assert answer.status == 404
    assert 'href="/">Back to the overview' in answer.text


def test_nothing_can_be_sent_to_the_page(worked: Run, serve: Callable[..., Browser]) -> None:
    browser = serve(worked)
    for method in ("POST", "PUT", "DELETE"):
        assert browser.ask(method, "/devices/a", "", {}).status == 405


def test_a_page_that_has_not_changed_is_not_sent_again(
    worked: Run, serve: Callable[..., Browser]
) -> None:
    browser = serve(worked)
    first = browser.get("/")
    again = browser.get("/", If_None_Match=first.headers["etag"])
    assert (again.status, again.text) == (304, "")
    worked.store.set_fact(r.PAUSED, "yes")
    changed = browser.get("/", If_None_Match=first.headers["etag"])
    assert changed.status == 200
    assert "Paused." in changed.text


def test_an_empty_fleet_is_told_the_next_step(
    a_run: MakeRun, serve: Callable[..., Browser]
) -> None:
    run = a_run(total=3, min_devices=2)
    browser = serve(run)
    assert "Waiting for devices" in browser.get("/").text
    assert "reefleet coordinator token new" in browser.get("/").text
    assert "No device is enrolled yet" in browser.get("/devices").text
    assert "No round has been opened yet" in browser.get("/rounds").text


def test_devices_are_found_by_name_board_and_state(
    a_run: MakeRun, serve: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "DEVICES_A_PAGE", 10)
    run = a_run(total=3)
    for number in range(24):
        run.add_device(f"shed-{number:03}")
    run.presence.write()
    run.store.revoke("shed-007", run.time.now)
    device = run.store.device("shed-008")
    assert device is not None
    assert device.plan is not None
    run.store.set_plan("shed-008", {"board": "rpi-5"}, device.plan, "", device.bundle_key)
    browser = serve(run)

    def names(**asked: object) -> list[str]:
        text = browser.get(f"/devices?{urlencode(asked)}").text
        return re.findall(r'class="name" href="/devices/([^"]+)"', text)

    assert len(names()) == 10
    assert names(page=3) == [f"shed-{number:03}" for number in range(20, 24)]
    assert names(page=99) == names(page=3)
    assert names(q="SHED-01") == [f"shed-{number:03}" for number in range(10, 20)]
    assert names(q="rpi-5") == ["shed-008"]
    assert names(q="%") == names(q="_") == []
    assert names(state="revoked") == ["shed-007"]
    assert len(names(state="present", page=3)) == 3
    run.time.pass_s(3600)
    assert names(state="present") == []
    assert "3 of 3" in browser.get("/devices?state=away&page=3").text


def test_another_sites_name_does_not_lead_to_a_page_without_login(
    worked: Run, serve: Callable[..., Browser]
) -> None:
    browser = serve(worked, names=("fleet.example",))
    assert browser.get("/", Host="evil.example").status == 421
    assert browser.get("/", Host="localhost.evil.example:1").status == 421
    for good in ("localhost:8480", "127.0.0.1", "[::1]:8480", "fleet.example"):
        assert browser.get("/", Host=good).status == 200


class TestFromElsewhere:
    """On an address that others reach."""

    @pytest.fixture
    def browser(self, worked: Run, serve: Callable[..., Browser]) -> Browser:
        return serve(worked, host=ANYWHERE)

    def login(self, browser: Browser, token: str) -> Answer:
        form = {"content-type": "application/x-www-form-urlencoded"}
        return browser.ask("POST", "/login", urlencode({"token": token}), form)

    def test_plain_http_gets_nothing(self, browser: Browser) -> None:
        with pytest.raises((http.client.HTTPException, OSError)):
            Browser(browser.port).get("/")

    def test_every_page_asks_for_a_login_first(self, browser: Browser) -> None:
        for path in PATHS:
            answer = browser.get(path)
            assert (answer.status, answer.headers["location"]) == (303, "/login")
            assert "depth" not in answer.text
        assert browser.get("/", Reefleet_Live="1").status == 401
        assert "Login token" in browser.get("/login").text

    def test_the_token_opens_the_page_until_the_login_ends(
        self, browser: Browser, worked: Run
    ) -> None:
        answer = self.login(browser, TOKEN)
        assert (answer.status, answer.headers["location"]) == (303, "/")
        given = answer.headers["set-cookie"]
        for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
            assert word.lower() in given.lower()
        assert TOKEN not in given
        cookie = given.partition(";")[0]
        assert browser.get("/", Cookie=cookie).status == 200
        assert (
            browser.get("/", Cookie=f"{cookie[:-1]}{'0' if cookie[-1] != '0' else '1'}").status
            == 303
        )
        worked.time.pass_s(LOGIN_S)
        assert browser.get("/", Cookie=cookie).status == 303

    def test_programs_show_the_token_itself(self, browser: Browser) -> None:
        assert browser.get("/", Authorization=f"Bearer {TOKEN}").status == 200
        assert browser.get("/", Authorization=f"Bearer {TOKEN}x").status == 303

    def test_wrong_tokens_are_refused_and_soon_not_even_looked_at(self, browser: Browser) -> None:
        first = self.login(browser, "wrong")
        assert first.status == 403
        assert "set-cookie" not in first.headers
        for _ in range(10):
            self.login(browser, "wrong")
        assert "oo many refused logins from here; try again in" in self.login(browser, TOKEN).text

    def test_a_form_of_many_bytes_is_not_read(self, browser: Browser) -> None:
        assert self.login(browser, "x" * 10_000).status == 413


def test_a_coordinator_serves_the_page_where_its_settings_say(
    tmp_path: Path, contract_file: Path, compiler: tuple[str, ...]
) -> None:
    from coordinator.config import Listen
    from coordinator.folder import create
    from coordinator.server import Coordinator
    from tests.coordinator.test_listeners import free_port

    folder = create(tmp_path / "fleet", "barn", contract_file, None)
    config = CoordinatorConfig(
        listen=Listen(host="127.0.0.1", fleet_port=0, enrollment_port=0), web=Web(port=free_port())
    )
    running = Coordinator(folder, config, compiler=compiler)
    ports = running.start()
    try:
        assert ports.web_port == config.web.port
        assert Browser(ports.web_port).get("/").status == 200
        other = create(tmp_path / "other", "barn", contract_file, None)
        with pytest.raises(Exception, match=f"cannot serve the page .*{ports.web_port}"):
            Coordinator(other, config, compiler=compiler).start()
    finally:
        running.stop()
    with pytest.raises(OSError, match="refused"):
        Browser(ports.web_port).get("/")


def test_the_page_is_loaded_only_where_it_is_served() -> None:
    from tests.packaging.test_rooms import loaded_by

    loaded = loaded_by("coordinator.server", "coordinator.web")
    assert not loaded & {"starlette", "uvicorn", "jinja2"}
