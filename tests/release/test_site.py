"""The site builds strictly, and reads nothing from elsewhere."""

import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import ufm

# The first test pays for all: an idle core takes half a minute, a busy machine many.
pytestmark = pytest.mark.timeout(1200)

ROOT = Path(__file__).resolve().parents[2]
#: What a browser fetches by itself when it shows a page.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, with one example run."""
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {
        "NO_MKDOCS_2_WARNING": "1",
        "UFM_DOCS_OUTPUTS": str(folder / "outputs"),
    }
    # Not --quiet: strictness counts the warnings that are shown.
    for command in (
        ["docs/hooks/examples.py", "--quick", "03"],
        ["-m", "mkdocs", "build", "--strict", "--site-dir", str(folder / "html")],
    ):
        ran = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder / "html"


class Fetched(HTMLParser):
    """Addresses that a page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if FETCHED.get(tag) == name]


def test_it_needs_no_address_outside(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for address in Fetched(text).addresses:
            assert not re.match(r"(\w+:)?//", address), (page, address)
        assert 'class="mermaid"' not in text  # the theme would fetch a script for these
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text())


def test_formulas_are_rendered(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "arithmatex" not in text, page
        assert "{{ " not in text, page
    assert (site / "model.html").read_text(encoding="utf-8").count("<math") > 50


def test_a_tutorial_shows_what_its_example_prints_and_draws(site):
    page = (site / "tutorials" / "03_spectra.html").read_text(encoding="utf-8")
    assert "rotations explain 12 of 12 zeros" in page
    assert (site / "tutorials" / "03_spectra" / "figure.png").is_file()


def test_tables_hold_what_was_measured(site):
    page = (site / "benchmarks.html").read_text(encoding="utf-8")
    assert "<td>ufm newton</td>" in page
    assert "<td>ce</td>" in (site / "networks.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ufm.__all__)
def test_every_export_has_a_docstring_and_an_entry(site, name):
    exported = getattr(ufm, name)
    about = inspect.getdoc(exported) or ""
    assert about
    assert not about.startswith(f"{name}(")  # what dataclasses write by themselves
    pages = (site / "api").glob("*.html")
    assert any(f'id="ufm.{name}"' in page.read_text(encoding="utf-8") for page in pages)


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).is_file()] == []
