"""The pages of docs/ are in step with the code, and make a site without broken links."""

import os
import re
import subprocess
import sys
from pathlib import Path

from workspace import ROOT


def test_the_reference_is_what_the_schemas_say(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "docs/make_reference.py", "--to", tmp_path]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")})
    for page in sorted(tmp_path.glob("*.md")):
        assert (ROOT / "docs/reference" / page.name).read_text() == page.read_text(), (
            f"make reference: {page.name}"
        )


def test_the_site_is_built_without_a_broken_link(tmp_path: Path) -> None:
    """Strict mode ends with an error for a link, an anchor or a picture that does not exist."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/index.html").is_file()
    assert (tmp_path / "site/search/search_index.js").is_file()  # search works from a disk


def test_links_of_the_readme_exist() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), f"{page}: {target}"
