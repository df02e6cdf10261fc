# SPDX-License-Identifier: Apache-2.0
"""The HTTP/2 client against a real TLS 1.3 server: refusals first, then streams beside each other."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from edgefl.adapters.clock import SystemClock
from edgefl.adapters.http import Caller, Client, HubRefused, Timeouts, tls_context
from edgefl.adapters.timeout import within
from edgefl.errors import DataError, Refused, StorageError, TemporaryFailure, Unavailable
from edgefl.wire import cbor, keys

from .fakehub import Authority, Drop, FakeHub, GoAway, Hang


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def serve(authority, tmp_path):
    hubs = []

    def start(handler, **options) -> FakeHub:
        hubs.append(FakeHub(handler, authority.server(tmp_path), authority.der, **options))
        return hubs[-1]

    yield start
    for hub in hubs:
        hub.stop()


def client(hub, authority, tmp_path, *, identity=None, caller=None, ca=None, **timeouts) -> Client:
    identity = identity or authority.device(tmp_path)
    tls = tls_context(ca or authority.der, identity)
    return Client(hub.url, tls, caller, SystemClock(), timeouts=Timeouts(**timeouts))


def ok(method, path, headers, body):
    return 200, {}, cbor.dumps({"method": method, "path": path, "size": len(body)})


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_expired_certificate_gives_the_alert(serve, authority, tmp_path):
    hub = serve(ok)
    expired = authority.device(tmp_path, -10, -1)
    for _ in range(5):
        with pytest.raises(Refused, match="certificate expired"):
            run(client(hub, authority, tmp_path, identity=expired).call("GET", "/"))


def test_foreign_certificate_gives_the_alert(serve, authority, tmp_path):
    hub = serve(ok)
    foreign = Authority("another CA").device(tmp_path)
    for _ in range(5):
        with pytest.raises(Refused, match="unknown ca"):
            run(client(hub, authority, tmp_path, identity=foreign).call("GET", "/"))


def test_no_certificate_is_refused(serve, authority):
    hub = serve(ok)
    bare = Client(hub.url, tls_context(authority.der), None, SystemClock())
    with pytest.raises(Refused, match="certificate required"):
        run(bare.call("GET", "/"))


def test_hub_of_another_ca_is_refused(serve, authority, tmp_path):
    hub = serve(ok)
    with pytest.raises(Refused, match="pinned CA"):
        run(client(hub, authority, tmp_path, ca=Authority("pinned").der).call("GET", "/"))


def test_device_certificate_cannot_play_hub(authority, tmp_path):
    """A device of the same fleet that listens is not a hub: its certificate is for clients only."""
    hub = FakeHub(ok, authority.device(tmp_path, name="device.pem"), authority.der)
    with pytest.raises(Refused):
        run(client(hub, authority, tmp_path).call("GET", "/"))
    hub.stop()


def test_unreachable_hub_is_unavailable(authority, tmp_path, serve):
    hub = serve(ok)
    hub.stop()
    with pytest.raises(Unavailable, match="cannot reach"):
        run(client(hub, authority, tmp_path).call("GET", "/"))


def test_silent_hub_times_out_and_next_request_reconnects(serve, authority, tmp_path):
    silent = [True]

    def handler(*request):
        if silent.pop() if silent else False:
            raise Hang
        return ok(*request)

    hub = serve(handler)

    async def go():
        c = client(hub, authority, tmp_path, answer=0.3)
        with pytest.raises(Unavailable, match="did not answer"):
            await c.call("POST", "/v1/poll", {})
        answer = await c.call("POST", "/v1/poll", {})
        await c.close()
        return answer

    assert run(go())["path"] == "/v1/poll"
    assert hub.connections == 2


@pytest.mark.parametrize("fault", [GoAway, Drop])
def test_lost_connection_ends_all_streams_and_resumes(serve, authority, tmp_path, fault):
    def handler(method, path, headers, body):
        if path == "/hang":
            raise Hang
        if path == "/fault":
            raise fault
        return ok(method, path, headers, body)

    hub = serve(handler)

    async def go():
        c = client(hub, authority, tmp_path)
        await c.call("GET", "/first")
        waiting = asyncio.create_task(c.call("GET", "/hang"))
        await asyncio.sleep(0.05)
        with pytest.raises(Unavailable):
            await c.call("GET", "/fault")
        with pytest.raises(Unavailable):
            await waiting
        answer = await c.call("GET", "/again")
        await c.close()
        return answer

    assert run(go())["path"] == "/again"


def test_upload_and_download_pass_a_pending_poll(serve, authority, tmp_path):
    """3 MB each way (above every window) while a long poll is open on the same connection."""
    blob = bytes(range(256)) * 12000
    release = threading.Event()

    def handler(method, path, headers, body):
        if path == "/v1/poll":
            release.wait(20)
        if method == "GET":
            return 200, {}, blob
        return ok(method, path, headers, body)

    hub = serve(handler)

    async def go():
        c = client(hub, authority, tmp_path)
        poll = asyncio.create_task(c.call("POST", "/v1/poll", {}))
        put = asyncio.create_task(c.request("PUT", "/up", blob))
        await c.download("/down", tmp_path / "blob", len(blob))
        size = cbor.loads((await put).body)["size"]
        assert not poll.done()
        release.set()
        await poll
        await c.close()
        return size

    assert run(go()) == len(blob)
    assert (tmp_path / "blob").read_bytes() == blob
    assert hub.connections == 1


def test_cancelled_request_leaves_the_connection_usable(serve, authority, tmp_path):
    def handler(method, path, headers, body):
        if path == "/hang":
            raise Hang
        return ok(method, path, headers, body)

    hub = serve(handler)

    async def go():
        c = client(hub, authority, tmp_path)
        task = asyncio.create_task(c.call("GET", "/hang"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await c.call("GET", "/next")
        await c.close()

    run(go())
    assert hub.connections == 1


def test_download_resumes_by_range(serve, authority, tmp_path):
    blob = bytes(range(256)) * 40
    seen = []

    def handler(method, path, headers, body):
        seen.append(headers.get("range"))
        start = int(headers.get("range", "bytes=0-")[6:-1])
        return (206 if start else 200), {}, blob[start:]

    hub = serve(handler)
    part = tmp_path / "part"
    part.write_bytes(blob[:1000])

    async def go():
        c = client(hub, authority, tmp_path)
        await c.download("/blob", part, len(blob))
        await c.download("/blob", part, len(blob))  # already whole: no request
        await c.close()

    run(go())
    assert part.read_bytes() == blob
    assert seen == ["bytes=1000-"]


def test_download_from_a_hub_without_ranges_starts_over(serve, authority, tmp_path):
    hub = serve(lambda *_: (200, {}, b"x" * 5000))
    part = tmp_path / "part"
    part.write_bytes(b"y" * 1000)
    run(client(hub, authority, tmp_path).download("/blob", part, 5000))
    assert part.read_bytes() == b"x" * 5000


@pytest.mark.parametrize("size", [4999, 5001])
def test_download_of_another_size_is_refused(serve, authority, tmp_path, size):
    hub = serve(lambda *_: (200, {}, b"x" * size))
    with pytest.raises(DataError):
        run(client(hub, authority, tmp_path).download("/blob", tmp_path / "part", 5000))


def test_download_to_a_full_disk_is_one_line(serve, authority, tmp_path):
    hub = serve(lambda *_: (200, {}, b"x" * 500000))
    with pytest.raises(StorageError, match="No space"):
        run(client(hub, authority, tmp_path).download("/blob", "/dev/full", 500000))


def test_endless_answer_is_cut(serve, authority, tmp_path):
    hub = serve(lambda *_: (200, {}, b"x" * (2 << 20)))
    with pytest.raises(DataError, match="larger than"):
        run(client(hub, authority, tmp_path).request("GET", "/"))


def test_refusals_have_their_code(serve, authority, tmp_path):
    answers = iter([(403, "device.revoked"), (503, "busy"), (404, "not_found")])

    def handler(*_):
        status, code = next(answers)
        return status, {}, cbor.dumps({"code": code, "text": "why"})

    hub = serve(handler)

    async def go():
        c = client(hub, authority, tmp_path)
        with pytest.raises(HubRefused, match=r"device\.revoked.*why") as caught:
            await c.call("GET", "/")
        assert caught.value.code == "device.revoked"
        with pytest.raises(TemporaryFailure):
            await c.call("GET", "/")
        with pytest.raises(HubRefused, match="not_found"):
            await c.call("GET", "/")
        await c.close()

    run(go())


def test_request_refused_for_age_is_signed_again_with_hub_time(serve, authority, tmp_path):
    import re

    created = []

    def handler(method, path, headers, body):
        created.append(int(re.search(r"created=(\d+)", headers["signature-input"])[1]))
        if len(created) == 1:
            return 401, {"edgefl-time": "5000"}, cbor.dumps({"code": "request.age", "text": "old"})
        return ok(method, path, headers, body)

    hub = serve(handler)
    caller = Caller(keys.signer(bytes(32)), "00" * 16)
    run(client(hub, authority, tmp_path, caller=caller).call("GET", "/"))
    assert abs(created[0] - time.time()) < 60
    assert abs(created[1] - 5000) < 60


def test_cancellation_that_comes_with_the_answer_is_not_lost() -> None:
    """Python < 3.12: `asyncio.wait_for` would return the result and the task would go on for ever."""

    async def scenario() -> None:
        answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def answer() -> int:
            return await answered

        task = asyncio.ensure_future(within(5, answer()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        answered.set_result(1)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_time_limit_ends_the_job_before_it_raises():
    """What a cancelled job cleans up (a child process, say) is done when the limit is reported."""
    ended = []

    async def job():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def scenario():
        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, job())
        assert ended

    asyncio.run(scenario())
