"""What is refused: a code of HTTP and a sentence; and JSON that is none, told apart by what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response

from elman.runtime import FrozenError
from elman.serve.batcher import FullError, GoneError, LateError

__all__ = ["RefusedError", "code_of", "decoded", "refused"]

# Escapes of JSON, from left to right: a whole surrogate pair, half of one, anything else.
_ESCAPES = re.compile(r"\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(\\u[dD][89a-fA-F]\w\w)|\\.", re.ASCII)


class RefusedError(Exception):
    """A code of HTTP, and the sentence that says why. headers: what else the answer says."""

    def __init__(self, code: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.code, self.headers = code, headers


def refused(code: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that says no."""
    retry = {"retry-after": "1"} if code == 503 else {}
    return JSONResponse({"error": sentence}, code, {**retry, **(headers or {})})


def code_of(error: Exception) -> int:
    """The code of HTTP for what the batcher, the core and the requests raise."""
    if isinstance(error, RefusedError):
        return error.code
    codes: dict[type[Exception], int] = {FullError: 503, GoneError: 503, LateError: 504}
    if isinstance(error, FrozenError) or isinstance(error.__cause__, FrozenError):
        return 422
    return codes.get(type(error), 500)


def decoded(what: str, given: bytes | str, kind: type[Any]) -> Any:
    """JSON of a kind. RefusedError, which says of `what`, such as "the body", why it is none."""
    try:
        text = given if isinstance(given, str) else given.decode()
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise RefusedError(400, f"{what} is no UTF-8: byte {error.start} is 0x{wrong:02x}") from None
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise RefusedError(422, f"{what} is not what is expected here: {error}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RefusedError(400, f"{what} is no JSON: {_fault(text) or error}") from None


def _fault(text: str) -> str:
    """What is wrong, where the reader's own words would lead astray."""
    if not text.strip():
        return "it is empty"
    if text.startswith("\ufeff"):
        return "it begins with a byte order mark"
    half = next((escape[1] for escape in _ESCAPES.finditer(text) if escape[1]), None)
    return f"{half} is half of a surrogate pair, and no character by itself" if half else ""
