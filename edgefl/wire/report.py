# SPDX-License-Identifier: Apache-2.0
"""A report body: header length (u32, big-endian), header (CBOR `Report`), masked payload.

In: a whole body, or its chunks as they arrive.  Out: the decoded header and the payload's bytes.  Refuses a
header above 2048 bytes before it is read, and a payload of another size than announced. Invariant:
`ReportStream` keeps at most one header in memory; the payload passes through.
"""

from __future__ import annotations

from edgefl.errors import DataError
from edgefl.wire.messages import Report

MAX_HEADER = Report.max_bytes


def split(body: bytes, payload_bytes: int) -> tuple[Report, bytes]:
    """Return (header, payload) of a whole body; raises DataError."""
    stream = ReportStream(payload_bytes)
    payload = stream.feed(body)
    return stream.finish(), payload


class ReportStream:
    """Reads a report body in chunks of any size.

    Parameters
    ----------
    payload_bytes : int
        The exact size of the payload, ceil(L*M/8) of the round's manifest.
    """

    def __init__(self, payload_bytes: int) -> None:
        self.header: Report | None = None
        self.header_bytes = b""
        self._buffer = bytearray()
        self._left = payload_bytes

    def feed(self, chunk: bytes) -> bytes:
        """Return the payload bytes of this chunk; empty until the header is complete.

        Raises
        ------
        DataError
            The header is malformed or too long, or the payload is longer than announced.
        """
        if self.header is None:
            self._buffer += chunk
            rest = self._take_header()
            if rest is None:
                return b""
            chunk = rest
        self._left -= len(chunk)
        if self._left < 0:
            raise DataError("the report's payload is longer than the round's vector")
        return chunk

    def _take_header(self) -> bytes | None:
        """Return what follows the header once it is complete."""
        if len(self._buffer) < 4:
            return None
        size = int.from_bytes(self._buffer[:4], "big")
        if not 0 < size <= MAX_HEADER:
            raise DataError(f"the report's header has {size} bytes, at most {MAX_HEADER} allowed")
        if len(self._buffer) < 4 + size:
            return None
        self.header_bytes = bytes(self._buffer[4 : 4 + size])
        self.header = Report.decode(self.header_bytes)
        rest = bytes(self._buffer[4 + size :])
        self._buffer.clear()
        return rest

    def finish(self) -> Report:
        """Return the header of a body that is complete; raises DataError if it is cut short."""
        if self.header is None or self._left:
            raise DataError("the report is cut short")
        return self.header
