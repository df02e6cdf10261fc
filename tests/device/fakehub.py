# SPDX-License-Identifier: Apache-2.0
"""A small real HTTP/2 hub over mutual TLS 1.3 for client tests: a CA of its own, one handler.

The handler is called with (method, path, headers, body) and returns (status, headers, body); it may raise
`Hang` (never answers), `GoAway` (ends the connection politely) or `Drop` (cuts it), and may sleep: one thread
a stream.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, RequestReceived, StreamEnded, WindowUpdated

Handler = Callable[[str, str, dict, bytes], tuple[int, dict, bytes]]


class Hang(Exception):
    pass


class GoAway(Exception):
    pass


class Drop(Exception):
    pass


def der(certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def key_pem(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    """A fleet CA; issues server and device certificates with the dates that a test wants."""

    def __init__(self, name: str = "test CA"):
        self.key = Ed25519PrivateKey.generate()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._build(self.name, self.key.public_key(), -1, 30, ca=True)
        self.der = der(self.certificate)

    def _build(self, subject, public, start_d, end_d, *, ca=False, usage=None, san=None):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=start_d))
            .not_valid_after(now + datetime.timedelta(days=end_d))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if san:
            builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
        return builder.sign(self.key, None)

    def server(self, folder: Path) -> Path:
        """Key and certificate for 127.0.0.1 in one PEM file."""
        import ipaddress

        key = Ed25519PrivateKey.generate()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
        san = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = self._build(
            name, key.public_key(), -1, 30, usage=ExtendedKeyUsageOID.SERVER_AUTH, san=san
        )
        return self._save(folder / "server.pem", key, certificate)

    def device(self, folder: Path, start_d: int = -1, end_d: int = 30, name: str = "id.pem") -> Path:
        key = Ed25519PrivateKey.generate()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
        certificate = self._build(
            subject, key.public_key(), start_d, end_d, usage=ExtendedKeyUsageOID.CLIENT_AUTH
        )
        return self._save(folder / name, key, certificate)

    def issue(self, csr_der: bytes) -> bytes:
        """Sign a device's CSR; DER."""
        csr = x509.load_der_x509_csr(csr_der)
        assert csr.is_signature_valid
        return der(self._build(csr.subject, csr.public_key(), -1, 30, usage=ExtendedKeyUsageOID.CLIENT_AUTH))

    @staticmethod
    def _save(path: Path, key, certificate) -> Path:
        path.write_bytes(key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
        return path


class FakeHub:
    """Serves `handler` on a free port of 127.0.0.1 until `stop`."""

    def __init__(self, handler: Handler, server_pem: Path, ca: bytes, *, mutual: bool = True):
        self.handler = handler
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.load_cert_chain(server_pem)
        tls.set_alpn_protocols(["h2"])
        if mutual:
            tls.verify_mode = ssl.CERT_REQUIRED
            tls.load_verify_locations(cadata=ca)
        self.tls = tls
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.connections = 0
        self.open: list[ssl.SSLSocket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        for sock in [self.socket, *self.open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        sock = self.tls.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        try:
            sock.do_handshake()
        except OSError:
            # Linger until the client has read the alert: closing with unread data would reset the connection.
            with contextlib.suppress(OSError):
                rest = socket.socket(fileno=sock.detach())
                rest.shutdown(socket.SHUT_WR)
                while rest.recv(65536):
                    pass
                rest.close()
            return
        self.connections += 1
        self.open.append(sock)
        try:
            _Server(sock, self.handler).run()
        except OSError:
            pass
        finally:
            sock.close()


class _Server:
    def __init__(self, sock: ssl.SSLSocket, handler: Handler):
        self.sock, self.handler = sock, handler
        self.lock = threading.Condition()
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests: dict[int, tuple[dict, bytearray]] = {}

    def run(self) -> None:
        with self.lock:
            self.h2.initiate_connection()
            self.sock.sendall(self.h2.data_to_send())
        while data := self.sock.recv(65536):
            with self.lock:
                for event in self.h2.receive_data(data):
                    if isinstance(event, RequestReceived):
                        self.requests[event.stream_id] = (dict(event.headers), bytearray())
                    elif isinstance(event, DataReceived):
                        self.requests[event.stream_id][1].extend(event.data)
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, StreamEnded):
                        threading.Thread(target=self._answer, args=(event.stream_id,), daemon=True).start()
                    elif isinstance(event, WindowUpdated):
                        self.lock.notify_all()
                    elif isinstance(event, ConnectionTerminated):
                        return
                self.sock.sendall(self.h2.data_to_send())

    def _answer(self, stream: int) -> None:
        head, body = self.requests.pop(stream)
        try:
            status, headers, out = self.handler(head[":method"], head[":path"], head, bytes(body))
        except Hang:
            return
        except GoAway:
            with self.lock:
                self.h2.close_connection()
                self.sock.sendall(self.h2.data_to_send())
            return
        except Drop:
            self.sock.shutdown(socket.SHUT_RDWR)
            return
        try:
            with self.lock:
                pairs = [(":status", str(status)), *headers.items()]
                self.h2.send_headers(stream, pairs, end_stream=not out)
                while out:
                    self.sock.sendall(self.h2.data_to_send())
                    window = self.h2.local_flow_control_window(stream)
                    size = min(len(out), self.h2.max_outbound_frame_size, window)
                    if not size:
                        self.lock.wait(5)
                        continue
                    self.h2.send_data(stream, out[:size], end_stream=size == len(out))
                    out = out[size:]
                self.sock.sendall(self.h2.data_to_send())
        except Exception:  # the client is gone or has reset the stream
            return
