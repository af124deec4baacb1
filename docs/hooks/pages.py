"""Pages made when the site is built: tutorials, API, command reference, architecture.

The API has a page for each folder of ufm/, the tutorials one for each file in examples/. In the
other pages a line `{{ name }}` stands for text that is made here (or by `measurements.py`), and
`{{ FILE }}` for a file of the repository.
"""

import ast
import contextlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from import_order import ALLOWED, ORDER  # noqa: E402  # after the path

from ufm.cli import COMMANDS, main  # noqa: E402  # after the path

#: Where `examples.py` leaves what the examples print and draw.
OUTPUTS = Path(os.environ.get("UFM_DOCS_OUTPUTS", ROOT / ".cache" / "docs"))
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
FOLDERS = [folder for folder in ORDER if folder not in ("_support", "cli")]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that are made here into the navigation."""
    made = {
        "Tutorials": [{title(path): f"tutorials/{path.stem}.md"} for path in EXAMPLES],
        "API": ["api/index.md", *({f"ufm.{name}": f"api/{name}.md"} for name in FOLDERS)],
    }

    def filled(entry: Any) -> Any:
        if isinstance(entry, list):
            return [filled(each) for each in entry]
        if isinstance(entry, dict):
            return {key: made.get(key) or filled(each) for key, each in entry.items()}
        return entry

    config.nav = filled(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and the pictures of the tutorials."""
    for path in EXAMPLES:
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=tutorial(path)))
        for picture in sorted((OUTPUTS / path.stem).glob("*.png")):
            address = f"tutorials/{path.stem}/{picture.name}"
            files.append(File.generated(config, address, abs_src_path=str(picture)))
    files.append(File.generated(config, "api/index.md", content=api_index()))
    for folder in FOLDERS:
        files.append(File.generated(config, f"api/{folder}.md", content=api_page(folder)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the lines `{{ name }}` that are known here."""

    def text(found: re.Match[str]) -> str:
        made = MADE.get(found[1])
        if made:
            return made()
        file = ROOT / found[1]
        return file.read_text(encoding="utf-8") if file.is_file() else found[0]

    return re.sub(r"^\{\{ (\S+) \}\}$", text, markdown, flags=re.MULTILINE)


def first_paragraph(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def home() -> str:
    """The README, its links those of the site."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\(examples/(\w+)\.py\)", r"](tutorials/\1.md)", text)
    text = re.sub(r"\]\((CONTRIBUTING|CHANGELOG)\.md\)", lambda m: m[0].lower(), text)
    return text.replace("](docs/", "](")


def title(path: Path) -> str:
    return first_paragraph(path).rstrip(".")


def tutorial(path: Path) -> str:
    """An example: what it is about, what it prints and draws, and its source."""
    source = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    about = docstring.partition("\n\n")[2]
    output = OUTPUTS / path.stem / "output.txt"
    lines = [f"# {title(path)}", about, "## Output"]
    if output.is_file():
        lines += [f"```text\n{output.read_text(encoding='utf-8').rstrip()}\n```"]
        pictures = sorted(output.parent.glob("*.png"))
        lines += [f"![{picture.stem}]({path.stem}/{picture.name})" for picture in pictures]
    else:
        lines += ["Built without running the example; `make docs` runs it."]
    code = source.partition('"""\n\n')[2]
    lines += [f"## Source: `examples/{path.name}`", f"```python\n{code.rstrip()}\n```"]
    return "\n\n".join(lines)


def exports(path: Path) -> Iterator[tuple[str, str]]:
    """Name and home of what a package or its stub exports (`from home import name as name`)."""
    stub = path.with_suffix(".pyi")
    path = stub if stub.is_file() else path
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.asname == alias.name:
                    yield alias.name, node.module or ""


def api_names(folder: str) -> list[str]:
    """What a folder offers: under `ufm` where that exports it, else under the folder."""
    inside = f"ufm.{folder}"
    top = [
        name
        for name, home in exports(ROOT / "ufm" / "__init__.py")
        if f"{home}.".startswith(f"{inside}.")
    ]
    own = [name for name, _ in exports(ROOT / "ufm" / folder / "__init__.py")]
    rest = [name for name in own if name not in top and not name.isupper()]  # no constants
    return [f"ufm.{name}" for name in top] + [f"{inside}.{name}" for name in rest]


def api_page(folder: str) -> str:
    entries = [f"::: {name}" for name in api_names(folder)]
    about = f"::: ufm.{folder}\n    options:\n      members: false\n      show_root_heading: false"
    return "\n\n".join([f"# ufm.{folder}", about, *entries])


def api_index() -> str:
    rows = [
        f"| [`ufm.{folder}`]({folder}.md) | "
        + ", ".join(f"[`{name.rpartition('.')[2]}`][{name}]" for name in api_names(folder))
        + " |"
        for folder in FOLDERS
    ]
    head = ["# API", "", "What `ufm` exports, by the folder where it lives.", ""]
    return "\n".join([*head, "| folder | names |", "|---|---|", *rows])


def command_reference() -> str:
    """`--help` of every command, and of the subcommands of those that have some."""
    os.environ["COLUMNS"] = "84"
    sections = []
    for name in COMMANDS:
        text = help_of(name)
        below = re.search(r"\{(.*)\}", text) if " subcommands" in text else None
        sections.append((name, text))
        for each in below[1].split(",") if below else []:
            sections.append((f"{name} {each}", help_of(name, each)))
    return "\n\n".join(f"## ufm {name}\n\n```text\n{text}\n```" for name, text in sections)


def help_of(*command: str) -> str:
    """What `ufm COMMAND --help` prints, its paragraphs wrapped."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    lines = out.getvalue().rstrip().splitlines()
    return "\n".join(textwrap.fill(line, 84) if line[:1].isalpha() else line for line in lines)


def architecture() -> str:
    """Folders in the order of imports, each with its docstring and what it may import."""
    rows = []
    for folder in ORDER:
        about = first_paragraph(ROOT / "ufm" / folder / "__init__.py")
        allowed = {name.partition(".")[0] for name in ALLOWED[folder]}
        barred = [name for name in ORDER[: ORDER.index(folder)] if name not in allowed]
        rows.append(f"| `{folder}` | {about} | {', '.join(f'`{name}`' for name in barred)} |")
    return "\n".join(["| folder | subject | may not import |", "|---|---|---|", *rows])


MADE = {"README.md": home, "commands": command_reference, "architecture": architecture}
