"""What the docs site adds to the files in docs/: links between pages, and the notebooks as pages.

Pages name each other in backticks, so that they read well as plain text too; here such a name becomes a link.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)
_NAME = re.compile(r"(?<!\[)`((?:docs/|[\w-]+/)?[\w-]+\.md)`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, its outputs as they were kept."""
    for path in sorted((ROOT / "examples/notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=as_page(path)))
    return files


def as_page(path: Path) -> str:
    """A notebook as Markdown."""
    parts = []
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        said = "".join(text_of(output) for output in cell.outputs).rstrip()
        if said:
            parts.append(f"```text\n{said}\n```")
    return "\n\n".join([*parts, f"The notebook is `{path.relative_to(ROOT)}`.\n"])


def text_of(output: Any) -> str:
    """What an output says."""
    return output.text if output.output_type == "stream" else output.data["text/plain"] + "\n"


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Make links of the names of other pages, outside of code."""
    here = page.file.src_uri

    def linked(found: re.Match[str]) -> str:
        name = found[1].removeprefix("docs/")
        for target in (posixpath.normpath(posixpath.join(posixpath.dirname(here), name)), name):
            file = files.get_file_from_path(target)
            if target != here and file is not None and file.inclusion.is_included():
                return f"[`{found[1]}`]({posixpath.relpath(target, posixpath.dirname(here) or '.')})"
        return found[0]

    pieces = _FENCE.split(markdown)
    return "".join(piece if place % 2 else _NAME.sub(linked, piece) for place, piece in enumerate(pieces))
