"""One deployment and one browser for all browser tests: the real webserver, daemon and code server, and Debian's Chromium.

Without Chromium these tests fail, or are skipped where ``BATCHOR_BROWSER=optional`` says so, as ``make test`` does on a
developer's machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from tests.browser.deployment import Shop
from tests.browser.project import GRUMBLING
from tests.browser.ui import UI
from tests.support.dagster_processes import DagsterDeployment

HERE = Path(__file__).parent
SHOTS = HERE.parents[1] / "browser-shots"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_CHROMIUM = (
    "no Chromium on this machine: `apt-get install chromium` brings it, and the browser tests need it"
)
OPTIONAL = os.environ.get("BATCHOR_BROWSER") == "optional"
PATIENCE_MS = 40_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in filter(_is_ours, items):
        item.add_marker(pytest.mark.browser)
        if CHROMIUM is None and OPTIONAL:
            item.add_marker(pytest.mark.skip(reason=NO_CHROMIUM))


def pytest_collection_finish(session: pytest.Session) -> None:
    # not earlier: only here it is known whether these tests are to run at all
    if CHROMIUM is None and not OPTIONAL and any(map(_is_ours, session.items)):
        pytest.exit(NO_CHROMIUM, returncode=1)


def _is_ours(item: pytest.Item) -> bool:
    return HERE in item.path.parents


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def provider() -> Iterator[OpenAIServer]:
    """A provider whose time stands still until a test moves it, and that refuses most of the grumbling shop's rows."""
    with OpenAIServer(manual=True) as server:
        answer = server.responder

        def respond(body: dict[str, Any], endpoint: str, custom_id: str) -> Any:
            grumbles = GRUMBLING in str(body) and int(custom_id.rsplit("-", 3)[1]) % 3
            return Reply.refusal() if grumbles else answer(body, endpoint, custom_id)

        server.responder = respond
        yield server


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, provider: OpenAIServer) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    environment = {
        "OPENAI_BASE_URL": provider.base_url,
        "OPENAI_API_KEY": "local",
        "BATCHOR_ROOT": str(folder / "batchor"),
    }
    deployment = DagsterDeployment(folder / "dagster_home", HERE / "project.py", environment)
    try:
        deployment.start("code", "daemon", "webserver")
        with deployment.instance() as instance:
            yield Shop(deployment, instance, provider, folder / "batchor")
    finally:
        deployment.stop()


@pytest.fixture(scope="session")
def shots() -> Path:
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir()
    return SHOTS


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield page
    context.close()


@pytest.fixture
def ui(page: Page, shop: Shop, shots: Path, request: pytest.FixtureRequest) -> Iterator[UI]:
    ui = UI(page, shop.url, shots)
    failed_before = request.session.testsfailed
    yield ui
    if request.session.testsfailed > failed_before:
        ui.shot(f"failed-{request.node.name}")
