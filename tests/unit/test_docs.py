"""The pages of docs/ are in step with the code, and make a site without broken links."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from browser import opened
from workspace import ROOT


def test_the_reference_is_what_the_schemas_say(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "docs/make_reference.py", "--to", tmp_path]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")})
    for page in sorted(tmp_path.glob("*.md")):
        assert (ROOT / "docs/reference" / page.name).read_text() == page.read_text(), (
            f"make reference: {page.name}"
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site. Strict mode ends with an error for a link, an anchor or a picture that does not exist."""
    site = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", site],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return site


def test_the_site_has_all_pages_and_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")}
    made = {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")}
    assert made - {Path("404")} == pages
    for page in site.rglob("*.html"):
        assert not re.search(r'<(script|img|link)[^>]*(src|href)="?(https?:)?//', page.read_text()), page.name


def test_the_search_finds_pages_that_are_opened_from_a_disk(site: Path) -> None:
    """Without a server and a network, from a page of the top directory and from one below it."""
    for page in ("index.html", "reference/study.html"):
        with opened(site / page, ready=".md-search__input") as (browser, complaints):
            browser.click(".md-search__input")
            browser.keyboard.type("mcnemar")
            browser.wait_for_selector("a.md-search-result__link")
            hrefs = "found => found.map((link) => link.href)"
            links = browser.eval_on_selector_all("a.md-search-result__link", hrefs)
            assert any(link.startswith((site / "statistics.html").as_uri()) for link in links)
            assert not complaints


def test_links_of_the_readme_exist() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), f"{page}: {target}"
