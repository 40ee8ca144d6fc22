"""The ids of rankings. They are opaque, and a key makes them, so that feedback counts only for rankings that were made.

    0f3a6c1d2b4e5f60-75bca19cf21610cd7fe8126a800b45fa97b1

    bundle version - 10 random digits, 10 of the session, 16 of a code (MAC)

The digits of the session are a code of its id, hidden by the random digits: only who has the key can tell that rankings
belong to one session. So feedback can be removed with its session. Without a session, they are random too.

An id names its bundle, so that no worker has to remember its answers. All workers of a service have the same key, and
it outlives a restart. `load_key` says where it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from pathlib import Path

from mtaw_fast.errors import UsageError, require
from mtaw_fast.experiment.redis_streams import REDIS, redis_address
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.settings import Settings

PATTERN = "^[0-9a-f]{16}-[0-9a-f]{36}$"
EXAMPLE = "0f3a6c1d2b4e5f60-75bca19cf21610cd7fe8126a800b45fa97b1"
KEY_VARIABLE = "MTAW_FEEDBACK_KEY"  # the same on several hosts: each then takes feedback on the others' rankings
KEY_NAME = "ranking-ids.key"
_VERSION_DIGITS, _DRAWN_DIGITS, _CODE_DIGITS = 16, 10, 16
_WHOLE = re.compile(PATTERN.removesuffix("$"))  # Python's `$` would allow a line end, which JSON Schema's does not
_KEY = re.compile("[0-9a-f]{64}")
_TIMEOUT = 1.0  # seconds for Redis


def _coder(key: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(key=key, digest_size=_CODE_DIGITS // 2)


_coded = _coder(secrets.token_bytes(32))


def use_key(key: bytes) -> None:
    """Set the key of this process, at most 64 bytes. Before that it is a random one."""
    global _coded
    _coded = _coder(key)


def new_id(version: str, session: str | None = None) -> str:
    """Return an id for a ranking of a bundle version that no other ranking has. Thread-safe.

    session: the id of the session that it was made for, if that is known.
    """
    digits = os.urandom(_DRAWN_DIGITS).hex()
    if session is not None:
        drawn = digits[:_DRAWN_DIGITS]
        digits = f"{drawn}{session_code(session) ^ _mask(drawn):0{_DRAWN_DIGITS}x}"
    prefix = f"{version}-{digits}"
    return prefix + _code(prefix)


def session_code(session: str) -> int:
    """Return the code of a session, of 40 bits."""
    return int(_code(f" {session}")[:_DRAWN_DIGITS], 16)


def session_code_in(recommendation: str) -> int:
    """Return the code of the session that a ranking's id was made for, with the key of this process."""
    begin = _VERSION_DIGITS + 1
    drawn = recommendation[begin : begin + _DRAWN_DIGITS]
    return int(recommendation[begin + _DRAWN_DIGITS : -_CODE_DIGITS], 16) ^ _mask(drawn)


def is_id(text: str) -> bool:
    """Return whether a text is an id that this process or another one with its key made."""
    return _WHOLE.fullmatch(text) is not None and hmac.compare_digest(text[-_CODE_DIGITS:], _code(text[:-_CODE_DIGITS]))


def version_in(recommendation: str) -> str:
    """Return the bundle version that a ranking's id names."""
    return recommendation[:_VERSION_DIGITS]


def _mask(drawn: str) -> int:
    return int(_code(f"mask {drawn}")[:_DRAWN_DIGITS], 16)


def _code(named: str) -> str:
    coded = _coded.copy()
    coded.update(named.encode("utf-8", "surrogatepass"))
    return coded.hexdigest()


def key_of(secret: str) -> bytes:
    """Return the key that $MTAW_FEEDBACK_KEY gives."""
    return hashlib.blake2b(secret.encode(), digest_size=32).digest()


def load_key(settings: Settings) -> bytes:
    """Return the key of a service; make it if there is none.

    It is that of `settings`, or $MTAW_FEEDBACK_KEY, or it is kept with the feedback: in a file next to the file, in the
    folder, or in Redis. Without feedback it is kept in the folder of `--learn`, and otherwise not at all. A key that
    cannot be kept is logged, and is lost at the end of the service. Raises UsageError if the file has no key.
    """
    if settings.ranking_key is not None:
        return settings.ranking_key
    text = os.environ.get(KEY_VARIABLE, "").strip()
    if text:
        return key_of(text)
    location = settings.feedback
    try:
        if location is not None and location.startswith(REDIS):
            return _key_in_redis(location, settings.sessions_password)
        if location is not None:
            folder = location.endswith(os.sep) or Path(location).is_dir()
            return _key_in_file(Path(location) / KEY_NAME if folder else Path(f"{location}.key"))
        if settings.learn is not None:
            return _key_in_file(settings.learn.folder / KEY_NAME)
    except UsageError:
        raise
    except Exception as error:  # disks and Redis raise errors of many types
        log_event("ranking_key_not_kept", level="warning", reason=type(error).__name__)
    return secrets.token_bytes(32)


def _key_in_file(path: Path) -> bytes:
    """Return the key in a file that only its owner can read; write a new one if there is no file."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32) + "\n")
                file.flush()
                os.fsync(file.fileno())  # a power loss would leave an empty file under the name, which is refused
            with contextlib.suppress(FileExistsError):  # another service was faster: its key counts
                os.link(name, path)
        finally:
            Path(name).unlink()
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return _decoded(path.read_text().strip(), str(path))


def _key_in_redis(url: str, password: str | None) -> bytes:
    """Return the key that is kept next to the stream of feedback."""
    redis = require("redis", "serve")
    address, stream = redis_address(url)
    options = {} if password is None else {"password": password}
    with redis.Redis.from_url(
        address, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, decode_responses=True, **options
    ) as client:
        client.set(f"{stream}:key", secrets.token_hex(32), nx=True)
        return _decoded(str(client.get(f"{stream}:key")), f"{stream}:key in Redis")


def _decoded(text: str, where: str) -> bytes:
    if not _KEY.fullmatch(text):
        raise UsageError(f"{where} is not a key of 64 hex digits; remove it, and the service makes a new one")
    return bytes.fromhex(text)
