"""Read an HTML page in a test."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """The page's text, and its tags, which must nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.open, self.tags, self.links = "", [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"
