"""Keys and names as parts of paths and URIs: reversible, distinct on any file system, unable to escape a folder."""

from __future__ import annotations

import hashlib
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

MAX_PART: Final = 120
"""Characters a file name part may have before it becomes a hash, so that suffixes still fit into 255 bytes."""

_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-.")
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})


def file_part(key: str | bytes) -> str:
    """A file name part for any key: distinct for distinct keys, also where case or Unicode form is not kept.

    Everything but `a-z 0-9 _ - .` is percent-encoded, upper case included. What follows a `%` that is no
    hexadecimal pair marks the special forms: `%empty`, `%bytes-...`, `%hash-...`.
    """
    raw = key.encode() if isinstance(key, str) else key
    text = "".join(chr(byte) if byte in _SAFE else f"%{byte:02x}" for byte in raw)
    if not raw:
        text = "%empty"
    elif text[0] == "." or text.partition(".")[0] in _DEVICES:
        text = f"%{raw[0]:02x}{text[1:]}"
    if text.endswith("."):
        text = f"{text[:-1]}%2e"
    if isinstance(key, bytes):
        text = f"%bytes-{text}"
    if len(text) > MAX_PART:
        text = f"%hash-{hashlib.blake2b(text.encode(), digest_size=20).hexdigest()}"
    return text


def format_uri(scheme: str, name: str, key: str | bytes) -> str:
    """`memory://features/ema`: container and key percent-encoded; a bytes key is marked by `?bytes`."""
    raw = key.encode() if isinstance(key, str) else key
    mark = "?bytes" if isinstance(key, bytes) else ""
    return f"{scheme}://{quote_from_bytes(name.encode(), safe='')}/{quote_from_bytes(raw, safe='')}{mark}"


def parse_uri(uri: str) -> tuple[str, str, str | bytes]:
    """Scheme, container name and key of a URI made by `format_uri`; raises `ValueError` for anything else."""
    scheme, mark, rest = uri.partition("://")
    name, slash, tail = rest.partition("/")
    if not mark or not slash or "/" in tail:
        raise ValueError(f"expected a URI such as memory://features/ema, found {uri!r}")
    encoded, _, kind = tail.partition("?")
    raw = unquote_to_bytes(encoded)
    if kind not in ("", "bytes"):
        raise ValueError(f"expected nothing or 'bytes' after the question mark, found {uri!r}")
    return scheme, unquote_to_bytes(name).decode(), raw if kind else raw.decode()
