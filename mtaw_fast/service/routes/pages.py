"""The web pages of the service: the playground, the API reference, what a shop watches, and the experiment.

They load nothing from other hosts, except the pictures that the item table names in a public column.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litestar import Response, get

_PAGES = Path(__file__).with_name("static")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data: https: http:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


def page_routes() -> list[Any]:
    """Return the routes of the pages, and of the files that they load."""
    names = {"/": "playground.html", "/docs": "docs.html", "/watch": "watch.html", "/experiment": "experiment.html"}
    names |= {f"/{path.name}": path.name for path in sorted(_PAGES.iterdir()) if path.suffix in (".js", ".css")}
    return [_page(path, name) for path, name in names.items()]


def _page(path: str, name: str) -> Any:
    content = (_PAGES / name).read_bytes()
    headers = {
        "content-security-policy": _POLICY,
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }

    @get(path, include_in_schema=False, name=name)
    async def page() -> Response[bytes]:
        return Response(content, media_type=_TYPES[Path(name).suffix], headers=headers)

    return page
