"""A headless Chromium without a network, for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def opened(file: Path, *, chart: bool = True) -> Iterator[tuple[Any, list[str]]]:
    """Yield the page of a file, and what it complained about; skips the test without Chromium.

    With `chart`, its chart is drawn before.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium: install the package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_context(offline=True, viewport={"width": 1250, "height": 900}).new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith("http") and complaints.append(request.url))
        page.goto(file.as_uri())
        if chart:
            page.wait_for_selector("#chart .marks")
        yield page, complaints
        browser.close()
