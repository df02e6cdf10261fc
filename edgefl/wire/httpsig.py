# SPDX-License-Identifier: Apache-2.0
"""HTTP Message Signatures (RFC 9421) with Ed25519, and Content-Digest (RFC 9530): who sent this request.

In: method, path, query, headers, time, nonce.  Out: headers to send, or who signed.  Pure: no clock, no
entropy, no store; the caller accepts each nonce once and compares the body's SHA-256 with the digest that
comes out. Refuses every other set of components or parameters than the profile's, other spellings of the
same, and long headers. Invariant: exactly "@method" "@path" "@query", and "content-digest" if the method
carries a body, are covered.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgefl.errors import DataError, Refused
from edgefl.wire.keys import Signer, verify

LABEL = "edgefl"
MAX_AGE_S = 300
MAX_HEADER = 1024
NONCE_BYTES = 16
BODY_METHODS = frozenset({"POST", "PUT"})
PARAMETERS = ("created", "nonce", "keyid", "alg", "tag")
ENROLL = "enroll"  # audience of enrolment requests; elsewhere it is the hub id in hex

Parameter = int | str


class RequestRefused(Refused):
    """A request that is not what it claims; `code` goes into the answer (docs/protocol.md)."""

    def __init__(self, code: str, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.code = code


@dataclass(frozen=True)
class SignedRequest:
    """What a good signature says; the body's SHA-256 is None for methods without a body."""

    key_id: bytes
    created: int
    nonce: bytes
    body_sha256: bytes | None


@dataclass(frozen=True)
class SignatureInput:
    """One member of a Signature-Input header."""

    label: str
    components: tuple[str, ...]
    parameters: tuple[tuple[str, Parameter], ...]

    @property
    def text(self) -> str:
        """The inner list with its parameters, as RFC 8941 writes it."""
        inner = " ".join(f'"{c}"' for c in self.components)
        return f"({inner})" + "".join(
            f";{k}={v}" if isinstance(v, int) else f';{k}="{v}"' for k, v in self.parameters
        )


def signature_base(values: Sequence[tuple[str, str]], parameters: str) -> bytes:
    """Return the bytes to sign: a line for each (component, value), then the parameters (RFC 9421, 2.5)."""
    lines = [f'"{name}": {value}' for name, value in values]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("ascii")


# Headers


_INPUT = re.compile(
    r'([a-z][a-z0-9_-]{0,31})=\(("[!#-\[\]-~]{1,64}"(?: "[!#-\[\]-~]{1,64}"){0,15})\)((?:;[^;]*)*)'
)
_PARAMETER = re.compile(r'([a-z][a-z0-9_-]{0,31})=(?:(0|[1-9][0-9]{0,14})|"([ !#-\[\]-~]{0,128})")')


def parse_signature_input(header: str) -> SignatureInput:
    """Return the one signature that a Signature-Input header describes.

    A bounded part of RFC 8941: one member, plain strings as components; parameters are integers of 0 and
    above and strings without escapes and semicolons; no repeated names, no spaces but between components.

    Raises
    ------
    DataError
        Anything else.
    """
    match = _INPUT.fullmatch(header) if len(header) <= MAX_HEADER else None
    if match is None:
        raise DataError("malformed Signature-Input header")
    label, inner, rest = match.groups()
    parameters: dict[str, Parameter] = {}
    for part in rest.split(";")[1:]:
        found = _PARAMETER.fullmatch(part)
        if found is None or found[1] in parameters or len(parameters) == 16:
            raise DataError("malformed or repeated parameter in the Signature-Input header")
        parameters[found[1]] = int(found[2]) if found[2] is not None else found[3]
    components = tuple(c.strip('"') for c in inner.split(" "))
    if len(set(components)) != len(components):
        raise DataError("a component is signed twice")
    return SignatureInput(label, components, tuple(parameters.items()))


def parse_binary(header: str, name: str, size: int) -> bytes:
    """Return the bytes of a header `name=:base64:` with one member; raises DataError."""
    if not (len(header) <= MAX_HEADER and header.startswith(f"{name}=:") and header.endswith(":")):
        raise DataError(f"malformed header: {name}=:base64: expected")
    text = header[len(name) + 2 : -1]
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"malformed base64 in the header {name}") from None
    if len(raw) != size or base64.b64encode(raw).decode() != text:
        raise DataError(f"the header {name} must hold {size} bytes")
    return raw


def content_digest(body_sha256: bytes) -> str:
    """Return the Content-Digest header for a body's SHA-256."""
    return f"sha-256=:{base64.b64encode(body_sha256).decode()}:"


# The profile


def _covered(method: str, target: str, digest: str | None) -> list[tuple[str, str]]:
    """Return the components of the profile with their values; target is path[?query] as sent."""
    path, _, query = target.partition("?")
    if not (method.isascii() and method.isalpha() and method.isupper()):
        raise DataError("malformed method")
    if not re.fullmatch(r"/[!-~]*", target) or len(target) > MAX_HEADER:
        raise DataError("malformed request target")
    values = [("@method", method), ("@path", path), ("@query", "?" + query)]
    return values if digest is None else [*values, ("content-digest", digest)]


def sign_request(
    method: str,
    target: str,
    body_sha256: bytes | None,
    *,
    signer: Signer,
    audience: str,
    created: int,
    nonce: bytes,
) -> dict[str, str]:
    """Return the headers that sign a request.

    Parameters
    ----------
    method, target : str
        Such as `POST` and `/v1/poll`; the target is path and query as they are sent.
    body_sha256 : bytes or None
        SHA-256 of the body; None exactly for methods without one.
    signer : Signer
        (key id, sign) of the sender.
    audience : str
        Hub id in hex, or `enroll`.
    created : int
        Unix seconds by the hub's clock, as far as the sender knows it.
    nonce : bytes
        16 fresh random bytes.
    """
    if (body_sha256 is not None) != (method in BODY_METHODS) or len(nonce) != NONCE_BYTES:
        raise ValueError("POST and PUT carry a body digest, others none; a nonce has 16 bytes")
    name, sign = signer
    digest = None if body_sha256 is None else content_digest(body_sha256)
    values = _covered(method, target, digest)
    described = SignatureInput(
        LABEL,
        tuple(component for component, _ in values),
        (
            ("created", created),
            ("nonce", nonce.hex()),
            ("keyid", name.hex()),
            ("alg", "ed25519"),
            ("tag", f"edgefl/1/http/{audience}"),
        ),
    )
    signature = sign(signature_base(values, described.text))
    headers = {
        "signature-input": f"{LABEL}={described.text}",
        "signature": f"{LABEL}=:{base64.b64encode(signature).decode()}:",
    }
    return headers if digest is None else {"content-digest": digest, **headers}


def verify_request(
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    audience: str,
    key_of: Callable[[bytes], bytes | None],
    now: int,
    max_age_s: int = MAX_AGE_S,
) -> SignedRequest:
    """Return who signed a request; to be called before its body is read.

    Parameters
    ----------
    method, target : str
        As received; the target is the raw path and query.
    headers : Mapping[str, str]
        Lower-case names; a header that came twice must be absent or joined by a comma (then it is refused).
    audience : str
        This hub's id in hex, or `enroll`.
    key_of : callable
        Returns the public key of a key id, or None if it is unknown.
    now : int
        The hub's clock, unix seconds.

    Raises
    ------
    RequestRefused
        With code `request.signature`, `device.unknown` or `request.age`.
    """
    try:
        signed, signature, base = _read(method, target, headers, audience)
    except (DataError, KeyError, UnicodeEncodeError) as e:
        raise RequestRefused(
            "request.signature", f"the request is not signed as required: {_reason(e)}"
        ) from None
    public = key_of(signed.key_id)
    if public is None:
        raise RequestRefused("device.unknown", f"key {signed.key_id.hex()} is not enrolled here")
    if not verify(public, base, signature):
        raise RequestRefused("request.signature", "the request's signature is wrong")
    if abs(signed.created - now) > max_age_s:
        raise RequestRefused(
            "request.age",
            f"the request is {now - signed.created} s old by the hub's clock, limit {max_age_s} s either way",
            hint="retry with the hub's time",
        )
    return signed


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, DataError) else "header missing or not ASCII"


def _read(
    method: str, target: str, headers: Mapping[str, str], audience: str
) -> tuple[SignedRequest, bytes, bytes]:
    """Return (claims, signature, signature base) of a request in the profile; nothing is verified yet."""
    digest = headers["content-digest"] if method in BODY_METHODS else None
    values = _covered(method, target, digest)
    described = parse_signature_input(headers["signature-input"])
    signature = parse_binary(headers["signature"], LABEL, 64)
    p = dict(described.parameters)
    created, nonce, keyid = p.get("created"), p.get("nonce"), p.get("keyid")
    if (
        described.label != LABEL
        or described.components != tuple(component for component, _ in values)
        or tuple(p) != PARAMETERS
        or p["alg"] != "ed25519"
        or p["tag"] != f"edgefl/1/http/{audience}"
        or not isinstance(created, int)
    ):
        raise DataError("other components, parameters or tag than this hub's profile")
    body_sha256 = None if digest is None else parse_binary(digest, "sha-256", 32)
    claims = SignedRequest(_hex16(keyid), created, _hex16(nonce), body_sha256)
    return claims, signature, signature_base(values, described.text)


def _hex16(value: Parameter | None) -> bytes:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{32}", value):
        raise DataError("keyid and nonce must be 16 bytes in hex")
    return bytes.fromhex(value)
