"""The pages of docs/ are in step with the code, and make a site without broken links."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import snakemake

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


def texts_of(source: str) -> list[str]:
    """The texts of a module that may be printed: not its docstrings. Values in f-strings become …"""
    nodes = list(ast.walk(ast.parse(source)))
    unprinted = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = []
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in unprinted:
            texts.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            texts.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
    return texts


def quoted_messages(page: str) -> list[str]:
    """What is in backticks in the first column of the tables of messages."""
    rows = re.findall(r"^\| (message[^|]*\|.*\n)((?:\|.*\n)+)", page, re.M)
    firsts = [line.split("|")[1] for _, body in rows for line in body.splitlines()[1:]]
    return [quoted for first in firsts for quoted in re.findall(r"`([^`]+)`", first)]


def test_messages_are_found_and_docstrings_are_not() -> None:
    assert texts_of('"""said"""\nprint(f"{a} is b" " or c")') == ["… is b or c", " is b or c"]
    tables = "| message | why |\n|---|---|\n| `a …`, `b` | `c` |\n\n| d | e |\n|---|---|\n| `f` | |\n"
    assert quoted_messages(tables) == ["a …", "b"]


@pytest.mark.parametrize("page", ["troubleshooting", "store", "gpus"])
def test_quoted_messages_are_printed(page: str) -> None:
    """Each part of a quoted message is in a text of the package, or in one of Snakemake's errors."""
    package = [file.read_text() for file in (ROOT / "workflow/ebbtide").rglob("*.py")]
    errors = (Path(snakemake.__file__).parent / "exceptions.py").read_text()
    texts = [text for source in (*package, errors) for text in texts_of(source)]
    quoted = quoted_messages((ROOT / f"docs/{page}.md").read_text())
    assert quoted
    for message in quoted:
        for part in (part.strip(" .:;") for part in message.split("…")):
            assert any(part in text for text in texts), f"{page}.md quotes {message!r}: {part!r}"
