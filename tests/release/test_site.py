"""The site builds strictly, and reads nothing from elsewhere."""

import os
import re
import runpy
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


#: An example of its own: the real ones are run by test_examples.py.
EXAMPLE = """
import pathlib, sys
print("what it prints:", *sys.argv[1:])
pathlib.Path("figure.png").write_bytes(b"what it draws")
"--figure"
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """What the runner of examples leaves of one."""
    folder = tmp_path_factory.mktemp("outputs")
    script = folder / "03_spectra.py"
    script.write_text(EXAMPLE)
    runner = runpy.run_path(str(ROOT / "docs" / "hooks" / "examples.py"))
    runner["run"](script, ["--quick"], folder / script.stem)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory, outputs, full) -> Path:
    folder = tmp_path_factory.mktemp("site")
    told = {"NO_MKDOCS_2_WARNING": "1", "UFM_DOCS_OUTPUTS": str(outputs)}
    if not full:  # a row takes half a second; test_shipped_losses.py holds one
        told["UFM_DOCS_LOSSES"] = "1"
    ran = subprocess.run(
        # Not --quiet: strictness counts the warnings that are shown.
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | told,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


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
    assert "what it prints: --quick --figure figure.png" in page
    assert '<img alt="figure" src="03_spectra/figure.png"' in page
    assert (site / "tutorials" / "03_spectra" / "figure.png").read_bytes() == b"what it draws"


def test_tables_hold_what_was_measured(site):
    page = (site / "benchmarks.html").read_text(encoding="utf-8")
    assert "<td>ufm newton</td>" in page
    first, tour = page.split('id="the-first-answer"')[1].split("<table>")[1:3]
    assert "<td>optax L-BFGS</td>" in first
    assert "<td>nc_metrics</td>" in tour
    assert "<td>ce</td>" in (site / "networks.html").read_text(encoding="utf-8")
    claims = (site / "reproduce.html").read_text(encoding="utf-8")
    assert "<strong>refuted</strong>" in claims
    assert "<td>R₀ with 7 large classes</td>" in claims


def undocumented(page: str) -> list[str]:
    """Entries of a page of the API that no text follows."""
    entries = re.split(r'<h2 id="(ufm\.[^"]+)" class="doc', page)[1:]
    text = re.compile(
        r'<div class="doc doc-contents[^>]*>\s*(<p class="doc doc-class-bases">.*?</p>\s*)?<p>',
        re.DOTALL,
    )
    pairs = zip(entries[::2], entries[1::2], strict=True)
    # Only what comes before the members counts.
    return [name for name, body in pairs if not text.search(body.split("<h3")[0])]


def test_every_export_has_an_entry_with_text(site):
    pages = [path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html")]
    assert [name for page in pages for name in undocumented(page)] == []
    entries = set(re.findall(r'<h2 id="([^"]+)"', "".join(pages)))
    assert {f"ufm.{name}" for name in ufm.__all__} - entries == set()


def test_an_entry_without_text_is_seen():
    head = '<h2 id="ufm.f" class="doc doc-heading">f</h2><div class="doc doc-contents first">'
    assert undocumented(f"{head}</div>") == ["ufm.f"]
    assert undocumented(f"{head}<div><h3>member</h3><p>About it.</p></div></div>") == ["ufm.f"]
    assert undocumented(f"{head}<p>About f.</p></div>") == []


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).is_file()] == []
