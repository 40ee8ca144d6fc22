"""Extend the docs site: links between pages, notebooks as pages, every page as plain Markdown, llms.txt.

Pages name each other in backticks, so that they read well as plain text too; on the site such a name becomes a link
with the title of the page. Next to PAGE.html lies PAGE.md, with its API references written out; `llms.txt` at the root
lists them all (https://llmstxt.org).
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)
_NAME = re.compile(r"(?<!\[)`((?:docs/|(?:\.\./)*[\w-]+/)?[\w-]+\.md)(#[\w-]+)?`")
_TITLE = re.compile(r"^# (.+)$", re.M)
_REFERENCE = re.compile(r"^::: ([\w.]+)\n((?:^    .*\n?)*)", re.M)
_markdown: dict[str, str] = {}  # by source path, of the build that is running
_navigation: list[Navigation] = []


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
        printed = "".join(text_of(output) for output in cell.outputs).rstrip()
        if printed:
            parts.append(f"```text\n{printed}\n```")
    return "\n\n".join([*parts, f"The notebook is `{path.relative_to(ROOT)}`.\n"])


def text_of(output: Any) -> str:
    """What an output says."""
    return output.text if output.output_type == "stream" else output.data["text/plain"] + "\n"


def on_nav(nav: Navigation, **_: Any) -> Navigation:
    """Keep the navigation for llms.txt."""
    _navigation[:] = [nav]
    return nav


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Make links of the names of other pages, outside of code."""
    page_uri = page.file.src_uri

    def linked(found: re.Match[str]) -> str:
        name = found[1].removeprefix("docs/")
        for target in (posixpath.normpath(posixpath.join(posixpath.dirname(page_uri), name)), name):
            file = files.get_file_from_path(target)
            if target != page_uri and file is not None and file.inclusion.is_included():
                address = posixpath.relpath(target, posixpath.dirname(page_uri) or ".") + (found[2] or "")
                return f"[{title_of(file.content_string)}]({address})"
        return found[0]

    pieces = _FENCE.split(markdown)
    text = "".join(piece if index % 2 else _NAME.sub(linked, piece) for index, piece in enumerate(pieces))
    _markdown[page_uri] = text
    return text


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Name the page's Markdown in its head."""
    name = posixpath.basename(page.file.src_uri)
    return output.replace("</head>", f'<link rel="alternate" type="text/markdown" href="{name}"></head>', 1)


def on_post_build(config: MkDocsConfig) -> None:
    """Write every page's Markdown, and llms.txt."""
    site = Path(config.site_dir)
    package = griffe.load("mtaw_fast", search_paths=[ROOT], resolve_aliases=True)
    plain = {name: _REFERENCE.sub(lambda match: reference(package, match), text) for name, text in _markdown.items()}
    for name, text in plain.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text.rstrip() + "\n")
    parts = [f"# {config.site_name}\n", f"> {config.site_description}\n"]
    for section, pages in sections(_navigation[0].items):
        parts.append(f"## {section}\n")
        for page in pages:
            text = plain[page.file.src_uri]
            parts.append(f"- [{title_of(text)}]({page.file.src_uri}): {summary_of(text)}")
        parts.append("")
    (site / "llms.txt").write_text("\n".join(parts))


def sections(items: list[Any], above: str = "") -> Iterator[tuple[str, list[Page]]]:
    """The navigation's sections with their own pages; nested ones follow the one that holds them."""
    for item in items:
        if isinstance(item, Section):
            title = f"{above}: {item.title}" if above else item.title
            pages = [child for child in item.children if isinstance(child, Page)]
            if pages:
                yield title, pages
            yield from sections(item.children, title)
        elif not above and isinstance(item, Page):
            yield item.title, [item]


def title_of(text: str) -> str:
    """A page's first heading, without marks."""
    match = _TITLE.search(text)
    return match[1].replace("`", "").strip() if match else "Untitled"


def summary_of(text: str) -> str:
    """A page's first sentence, without marks."""
    body = _FENCE.sub("", text[_TITLE.search(text).end() :] if _TITLE.search(text) else text)
    prose = [part for part in re.split(r"\n\s*\n", body) if re.match(r"[\w`*\[(]", part.lstrip("\n"))]
    flat = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", " ".join(prose[0].split()) if prose else "").replace("**", "")
    return re.split(r"(?<=[.:!?])\s+(?=[A-Z\d`])", flat)[0].replace("`", "").rstrip(":")


def reference(package: griffe.Object, found: re.Match[str]) -> str:
    """One `::: name` written out: signatures and docstrings, of a class and its public members too."""
    options = found[2]
    level = int(match[1]) if (match := re.search(r"heading_level: (\d)", options)) else 2
    only = re.findall(r"\w+", match[1]) if (match := re.search(r"members: \[(.*?)\]", options)) else None
    documented = package[found[1].removeprefix("mtaw_fast.")]
    return "\n\n".join(written(documented, level, only, heading="show_root_heading: false" not in options)) + "\n"


def written(thing: Any, level: int, only: list[str] | None = None, heading: bool = True) -> Iterator[str]:
    """An object's heading, signature and docstring, then those of its members."""
    thing = thing.final_target if thing.is_alias else thing
    if heading:
        yield f"{'#' * level} {thing.name}"
    if thing.is_function:
        yield f"```python\n{thing.signature()}\n```"
    elif thing.is_attribute and thing.annotation is not None:
        yield f"```python\n{thing.name}: {thing.annotation}\n```"
    if thing.docstring is not None:
        yield inspect.cleandoc(thing.docstring.value)
    if thing.is_class or thing.is_module:
        for name in only or [name for name, member in thing.members.items() if not hidden(name, member)]:
            yield from written(thing.members[name], level + 1)


def hidden(name: str, member: Any) -> bool:
    """Whether a member is left out: private, imported, or without a docstring."""
    return name.startswith("_") or member.is_alias or member.docstring is None
