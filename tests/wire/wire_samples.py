# SPDX-License-Identifier: Apache-2.0
"""One valid instance of every message, for the codec's tests."""

from __future__ import annotations

from edgefl.wire import messages as m


def b(n: int, fill: int = 7) -> bytes:
    return bytes([fill]) * n


def pin(role: str, fill: int) -> m.HubPin:
    return m.HubPin(key=b(32, fill), operator=f"{role} Ltd", role=role)


TASK = m.Task(
    name="ecg",
    layers="bias+head",
    loss="softmax_ce",
    class_weights_nano=(10**9, 3 * 10**9),
    lr_nano=10**7,
    epochs=2,
    batch=32,
    micro_batch=32,
    step_cap_nano=10**9,
    shadow="int8",
    seed=(1 << 64) - 1,
    exponents=(-3, 4),
    mode="oneshot",
    width=16,
    value_bits=8,
    hub_rate_nano=10**9,
    clip=4000,
    scale=4096,
    dim=17643,
)
RELEASE = m.Release(
    model="ecg",
    class_="any",
    sequence=1_800_000_001,
    label="v2",
    issued=1_800_000_000,
    expires=1_802_592_000,
    file=b(32, 1),
    size=40_000,
    schema=b(32, 2),
    patches=(m.PatchRef(b(32, 3), b(32, 4), 900),),
    full=m.BlobRef(b(32, 5), 20_000),
    probe=m.ProbeRef(b(32, 6), 3000, b(32, 7)),
    task=TASK,
    runtime="0.1.0",
    provenance=m.Provenance(round=b(16), cohort=8, parents=(b(32, 3),)),
)
MANIFEST = m.Manifest(
    round=b(16),
    number=3,
    task=b(32, 8),
    model=b(32, 1),
    mode="oneshot",
    quorum=4,
    n_max=8,
    width=16,
    bits=11,
    value_bits=8,
    dim=17643,
    length=17649,
    scale=4096,
    clip=4000,
    deadline=1_800_000_600,
    leader=m.Leader(b(16, 1), "A"),
    helper=m.Helper(b(16, 2), "B", b(32, 9)),
)
REPORT = m.Report(
    round=b(16),
    attempt=1,
    device=b(16, 3),
    class_="any",
    nonce=b(16, 4),
    manifest=b(32),
    y_hash=b(32),
    box=b(180),
    proof=b"",
    signature=b(64),
    credential=b(200),
)

SAMPLES: dict[type[m.Message], m.Message] = {
    type(s): s
    for s in [
        pin("leader", 1),
        m.Token(
            url="https://hub:7444",
            hub="https://hub:7443",
            ca=b(32),
            secret=b(32, 9),
            publisher=b(32, 8),
            hubs=(pin("leader", 1), pin("helper", 2)),
            task="ecg",
            expires=1_800_003_600,
        ),
        m.EnrollRequest(secret=b(32), csr=b(300)),
        m.EnrollAnswer(device=b(16), certificate=b(400), ca=b(400), credential=b(200)),
        m.Credential(device=b(16), key=b(32), class_="any", expires=1_800_600_000),
        m.Poll(
            n=5,
            task="ecg",
            model=b(32),
            sequence=1_800_000_000,
            round=None,
            estimate_ms=0,
            samples=900,
            runtime="0.1.0",
            rejected=(b(32, 4),),
            event="",
        ),
        m.PollAnswer(release=None, round=b(600), cancel=(b(16),), credential=None),
        m.Accepted(accepted=True),
        m.Decline(reason="battery below 40 %"),
        m.Empty(),
        m.Problem(code="request.age", text="too old"),
        TASK,
        RELEASE.patches[0],
        RELEASE.full,
        RELEASE.probe,
        RELEASE.provenance,
        RELEASE,
        m.Probe(n=2, x=b(40)),
        MANIFEST.leader,
        MANIFEST.helper,
        MANIFEST,
        REPORT,
        m.Reports(reports=(REPORT.encode(),)),
        m.ReportsAnswer(accepted=(True, False), reasons=("", "round closed")),
        m.Member(b(16), "any"),
        m.SetStatement(
            round=b(16), h=b(32), digest=b(32), members=(m.Member(b(16, 1), "any"), m.Member(b(16, 2), "any"))
        ),
        m.VoidStatement(round=b(16), h=b(32), reason="below quorum"),
        m.SetAnswer(set=b(500), sum=b(24_268)),
    ]
}
