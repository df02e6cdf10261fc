# SPDX-License-Identifier: Apache-2.0
"""Refusals as HTTP answers: a code of docs/protocol.md, its status, one line for a person."""

from __future__ import annotations

from edgefl.wire.messages import Problem

STATUS = {
    "request.signature": 401,
    "request.age": 401,
    "request.replay": 409,
    "request.malformed": 400,
    "device.unknown": 403,
    "device.revoked": 403,
    "token.used": 403,
    "token.expired": 403,
    "token.unknown": 403,
    "round.unknown": 404,
    "round.closed": 410,
    "report.duplicate": 409,
    "report.malformed": 400,
    "report.signature": 403,
    "body.too_large": 413,
    "not_found": 404,
    "busy": 503,
}


class Refusal(Exception):
    """A request is refused."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.status = STATUS[code]
        self.text = text

    @property
    def body(self) -> bytes:
        """The answer's CBOR."""
        return Problem(code=self.code, text=one_line(self.text, 200)).encode()


def one_line(text: str, limit: int) -> str:
    """Return printable text of at most `limit` bytes, as messages carry it."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line.encode(errors="replace")[:limit].decode(errors="ignore")
