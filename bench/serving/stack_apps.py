"""One endpoint, `POST /v1/recommend`, on each ASGI framework that was considered for the service.

Every app validates the same body, makes the same call on the event loop and answers the same JSON. `plain` uses no
framework, so that the difference to it is a framework's cost. The environment variable STACK_BUNDLE names the bundle.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import msgspec

from mtaw_fast.recommender import Recommender


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The request."""

    session: list[int | str]
    k: int = 20
    exclude: list[int | str] = []
    exclude_seen: bool = False


class Answer(msgspec.Struct):
    """The response."""

    items: list[int | str]
    scores: list[float]
    unknown: list[int | str]
    fallback: bool


class Asked(Protocol):
    """What the request classes of the apps have in common."""

    session: list[int | str]
    k: int
    exclude: list[int | str]
    exclude_seen: bool


class _Engine:
    """The call that every app makes."""

    def __init__(self) -> None:
        self._recommender = Recommender.load(os.environ["STACK_BUNDLE"], verify=False)

    def __call__(self, body: Asked) -> dict[str, Any]:
        out = self._recommender.recommend(body.session, body.k, exclude=body.exclude, exclude_seen=body.exclude_seen)
        return {"items": out.items, "scores": out.scores.tolist(), "unknown": out.unknown, "fallback": out.fallback}


def plain_app() -> Any:
    """Bare ASGI with msgspec."""
    engine, decoder, encoder = _Engine(), msgspec.json.Decoder(Body), msgspec.json.Encoder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answer = encoder.encode(engine(decoder.decode(body)))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def litestar_app() -> Any:
    """Litestar, which decodes with msgspec."""
    from litestar import Litestar, post

    engine = _Engine()

    @post("/v1/recommend", status_code=200)
    async def recommend(data: Body) -> Answer:
        return Answer(**engine(data))

    recommend.fn.__annotations__ |= {"data": Body, "return": Answer}
    return Litestar([recommend], openapi_config=None, logging_config=None)


def starlette_app() -> Any:
    """Starlette alone with msgspec."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    engine, decoder, encoder = _Engine(), msgspec.json.Decoder(Body), msgspec.json.Encoder()

    async def recommend(request: Request) -> Response:
        answer = engine(decoder.decode(await request.body()))
        return Response(encoder.encode(answer), media_type="application/json")

    return Starlette(routes=[Route("/v1/recommend", recommend, methods=["POST"])])


def fastapi_app() -> Any:
    """FastAPI, which decodes with pydantic."""
    import fastapi
    import pydantic

    engine = _Engine()
    item = pydantic.StrictInt | pydantic.StrictStr
    asked = pydantic.create_model(
        "Asked",
        __config__=pydantic.ConfigDict(extra="forbid"),
        session=(list[item], ...),
        k=(int, 20),
        exclude=(list[item], []),
        exclude_seen=(bool, False),
    )
    given = pydantic.create_model(
        "Given", items=(list[item], ...), scores=(list[float], ...), unknown=(list[item], ...), fallback=(bool, ...)
    )

    async def recommend(body: Asked) -> Any:
        return engine(body)

    recommend.__annotations__ |= {"body": asked}
    app = fastapi.FastAPI()
    app.post("/v1/recommend", response_model=given)(recommend)
    return app


APPS = {"plain": plain_app, "starlette": starlette_app, "litestar": litestar_app, "fastapi": fastapi_app}
