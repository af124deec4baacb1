"""`ufm cite`: BibTeX from CITATION.cff."""

import re
from pathlib import Path
from typing import Any

import msgspec

from ufm.cli.output.print import write

#: Words that a citation key skips, as search engines do.
_SKIPPED = {"a", "an", "the", "are", "on", "of"}


class Cite(msgspec.Struct, frozen=True):
    """Print BibTeX for this software and for the papers whose mathematics it computes."""

    def run(self) -> int:
        citation = msgspec.yaml.decode(_source().read_text(encoding="utf-8"))
        write("\n\n".join((_software(citation), *map(_paper, citation["references"]))))
        return 0


def _source() -> Path:
    """CITATION.cff: inside an installed package, next to one that runs from its sources."""
    package = Path(__file__).parents[1]
    inside = package / "CITATION.cff"
    return inside if inside.exists() else package.parent / "CITATION.cff"


def _software(citation: dict[str, Any]) -> str:
    fields = {
        "title": citation["title"],
        "author": _authors(citation["authors"]),
        "note": f"Version {citation['version']}",
    }
    return _entry("misc", "ufm", fields)


def _paper(reference: dict[str, Any]) -> str:
    family = reference["authors"][0]["family-names"].lower()
    words = re.findall(r"[a-z]+", reference["title"].lower())
    word = next(word for word in words if word not in _SKIPPED)
    eprint = reference["identifiers"][0]["value"].removeprefix("arXiv:")
    fields = {
        "title": reference["title"],
        "author": _authors(reference["authors"]),
        "booktitle": reference["collection-title"],
        "year": str(reference["year"]),
        "eprint": eprint,
        "archiveprefix": "arXiv",
    }
    return _entry("inproceedings", f"{family}{reference['year']}{word}", fields)


def _authors(authors: list[dict[str, str]]) -> str:
    """ "Family, Given and …"; a group's name in braces, which BibTeX leaves whole."""
    return " and ".join(
        f"{{{author['name']}}}"
        if "name" in author
        else f"{author['family-names']}, {author['given-names']}"
        for author in authors
    )


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    width = max(map(len, fields))
    # Titles in double braces keep their capitals in every style.
    lines = [
        f"  {name:<{width}} = {{{f'{{{text}}}' if name == 'title' else text}}},"
        for name, text in fields.items()
    ]
    return "\n".join((f"@{kind}{{{key},", *lines, "}"))
