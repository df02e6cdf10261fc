# SPDX-License-Identifier: Apache-2.0
"""Downloads of content-addressed blobs: ETag, 304, Range.

In: a hash, request headers.  Out: bytes streamed from disk in pieces of 64 KiB.  The hash is the address, so
it is the ETag too and never goes stale.  Only `bytes=N-` and `bytes=N-M` are ranges; others get the whole
(RFC 9110 allows it).
"""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from server_min.refusal import Refusal
from server_min.store import Blobs

SMALL = 1 << 16


def send_blob(request: Request, blobs: Blobs, sha256: bytes) -> Response:
    """Return (part of) a blob, or 304, or 416."""
    size = blobs.size(sha256)
    if size is None:
        raise Refusal("not_found", f"there is no blob {sha256.hex()}")
    tag = f'"{sha256.hex()}"'
    headers = {"etag": tag, "accept-ranges": "bytes", "cache-control": "private, immutable"}
    if tag in [t.strip() for t in request.headers.get("if-none-match", "").split(",")]:
        return Response(None, 304, headers)
    found = re.fullmatch(r"bytes=(\d{1,15})-(\d{0,15})", request.headers.get("range", ""), re.ASCII)
    first, last, status = 0, size - 1, 200
    if found and request.headers.get("if-range", tag) == tag:
        first, last, status = int(found[1]), min(int(found[2] or last), last), 206
        if first > last:
            return Response(None, 416, {**headers, "content-range": f"bytes */{size}"})
        headers["content-range"] = f"bytes {first}-{last}/{size}"
    headers["content-length"] = str(last - first + 1)
    pieces = blobs.pieces(sha256, first, last - first + 1)
    if last - first < SMALL:  # one piece needs no thread
        return Response(b"".join(pieces), status, headers, media_type="application/octet-stream")
    return StreamingResponse(pieces, status, headers, media_type="application/octet-stream")
