# SPDX-License-Identifier: Apache-2.0
"""A disk in memory that forgets what was not synced, and a device that carries out install.py's actions.

Each primitive operation is a point at which the device may be killed or the power cut.  The database is a
dict that changes in one operation (SQLite with synchronous=FULL).  `skip` leaves out one fsync, to show that
it is needed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from ota_samples import FULL, NOW, OLD, PATCH, PINS

from edgefl.errors import DataError, Refused
from edgefl.ota import install
from edgefl.ota.gate import Verdict
from edgefl.ota.install import Failure, Step
from edgefl.ota.release import VerifiedRelease, check_blob, reconstruct, verify
from edgefl.wire.keys import sha256

CUTS = ("kill", "all lost", "data lost", "torn")


class Crash(Exception):
    """The process was killed or the power cut."""


class NoSpace(Exception):
    """ENOSPC."""


@dataclass
class Inode:
    data: bytes = b""
    synced: bytes = b""


@dataclass
class Disk:
    slots: dict[str, Inode] = field(default_factory=dict)
    root: dict[str, bytes] = field(default_factory=dict)  # links: name -> file hash
    synced_slots: dict[str, Inode] = field(default_factory=dict)
    synced_root: dict[str, bytes] = field(default_factory=dict)
    db: dict[str, object] = field(default_factory=dict)
    left: int | None = None  # operations until the crash
    full_at: int | None = None  # operations until the disk is full
    fail_at: int | None = None  # the one operation that fails (EIO)
    done: list[str] = field(default_factory=list)
    skip: str = ""

    def op(self, name: str) -> bool:
        """Count an operation; return whether to carry it out."""
        if self.left is not None:
            if self.left == 0:
                raise Crash
            self.left -= 1
        if self.full_at is not None:
            self.full_at -= 1
            if self.full_at < 0 and name in ("write part", "link", "transaction"):
                raise NoSpace
        self.done.append(name)
        if len(self.done) - 1 == self.fail_at:
            raise NoSpace
        return name != self.skip

    def write(self, name: str, data: bytes) -> None:
        if self.op("write part"):
            self.slots[name] = Inode(data)

    def sync_file(self, name: str) -> None:
        if self.op("fsync part"):
            self.slots[name].synced = self.slots[name].data

    def rename(self, old: str, new: str) -> None:
        if self.op("rename part"):
            self.slots[new] = self.slots.pop(old)

    def sync_slots(self) -> None:
        if self.op("fsync slots"):
            self.synced_slots = dict(self.slots)

    def unlink(self, name: str) -> None:
        if self.op("unlink"):
            del self.slots[name]

    def link(self, name: str, target: bytes) -> None:
        if self.op("link"):
            self.root[name] = target

    def rename_link(self, old: str, new: str) -> None:
        if self.op("rename link"):
            self.root[new] = self.root.pop(old)

    def sync_root(self) -> None:
        if self.op("fsync root"):
            self.synced_root = dict(self.root)

    def transaction(self, **rows: object) -> None:
        if self.op("transaction"):
            self.db.update(rows)

    def after(self, cut: str) -> Disk:
        """Return what the next start finds."""
        disk = copy.deepcopy(self)
        disk.left = disk.full_at = None
        if cut == "kill":
            return disk
        if cut == "all lost":
            disk.slots, disk.root = dict(disk.synced_slots), dict(disk.synced_root)
        for inode in disk.slots.values():
            unsynced = inode.data != inode.synced
            inode.data = inode.data[: len(inode.data) // 2] if cut == "torn" and unsynced else inode.synced
        disk.synced_slots, disk.synced_root = dict(disk.slots), dict(disk.root)
        return disk

    # What must hold at every moment, before anything is repaired

    def check(self) -> None:
        link, active, intent = self.root.get("current"), self.db.get("active"), self.db.get("intent")
        assert link is not None or active is None
        if link is not None:
            inode = self.slots.get(link.hex())
            assert inode is not None and sha256(inode.data) == link, "the link names a broken file"
            assert link == active or (intent is not None and link == intent.file), "neither old nor new"
        assert intent is None or 0 <= intent.attempts <= install.MAX_ATTEMPTS


class Device:
    """Carries out the machine's actions in order, as the adapters do."""

    def __init__(
        self, disk: Disk, verdicts: list[Verdict] | None = None, blobs: dict[bytes, bytes] | None = None
    ):
        self.disk = disk
        self.verdicts = verdicts if verdicts is not None else []
        self.blobs = blobs if blobs is not None else {sha256(b): b for b in (PATCH, FULL)}
        self.told: list[str] = []
        self.settle = False
        self.gated: list[bytes] = []
        db = disk.db
        self.state = install.State(
            active=db.get("active"),
            previous=db.get("previous"),
            seen=db.get("seen", 0),
            rejected=db.get("rejected", ()),
            intent=db.get("intent"),
        )

    def start(self) -> Device:
        self.feed(install.Started(self.disk.root.get("current"), self._kept_release()))
        return self

    def _kept_release(self) -> VerifiedRelease | None:
        if self.disk.db.get("intent") is None:
            return None
        try:
            seen, rejected = self.state.seen, self.state.rejected
            return verify(self.disk.db["envelope"], PINS, seen=seen, rejected=rejected, clock=NOW, floor=NOW)
        except Refused:
            return None

    def offer(self, release: VerifiedRelease) -> None:
        self.feed(install.Offered(release))

    def feed(self, event: install.Event) -> None:
        events = [event]
        while events:
            self.state, actions = install.step(self.state, events.pop(0))
            for action in actions:
                result = self.carry_out(action)
                if result is not None:
                    events.append(result)

    def carry_out(self, action: install.Action) -> install.Event | None:
        try:
            return getattr(self, type(action).__name__)(action)
        except NoSpace:
            at = {"SaveIntent": Step.INTENT, "WriteSlot": Step.SLOT, "Link": Step.LINK, "Commit": Step.COMMIT}
            step = at.get(type(action).__name__)
            return install.Failed(step, Failure.MACHINE, "no space left") if step else None

    def Fetch(self, a: install.Fetch):
        blob = a.download.blob
        if blob is not None:
            try:
                check_blob(self.blobs.get(blob.sha256, b""), blob, a.download.kind)
            except DataError as e:
                return install.Failed(Step.FETCH, Failure.MACHINE, str(e))
        return install.Done(Step.FETCH)

    def SaveIntent(self, a: install.SaveIntent):
        self.disk.transaction(intent=a.intent, envelope=a.envelope)
        return install.Done(Step.INTENT)

    def WriteSlot(self, a: install.WriteSlot):
        file = a.release.body.file
        name, kept = file.hex(), self.disk.slots.get(file.hex())
        if kept is not None and sha256(kept.data) == file:
            self.disk.sync_file(name)
            self.disk.sync_slots()
            return install.Done(Step.SLOT)
        base = self.disk.slots[self.state.active.hex()].data if self.state.active else b""
        blob = self.blobs[a.download.blob.sha256] if a.download.blob else b""
        try:
            data = reconstruct(a.release, a.download, blob, base)
        except DataError as e:
            kind = Failure.PATCH if a.download.kind == "patch" else Failure.RELEASE
            return install.Failed(Step.SLOT, kind, str(e))
        self.disk.write(".part-" + name, data)
        self.disk.sync_file(".part-" + name)
        self.disk.rename(".part-" + name, name)
        self.disk.sync_slots()
        return install.Done(Step.SLOT)

    def RunGate(self, a: install.RunGate):
        assert sha256(self.disk.slots[a.release.body.file.hex()].data) == a.release.body.file
        self.gated.append(a.release.body.file)
        verdict = self.verdicts.pop(0) if self.verdicts else Verdict.PASS
        if verdict is Verdict.PASS:
            return install.Done(Step.GATE)
        return install.Failed(
            Step.GATE, Failure.RELEASE if verdict is Verdict.FAIL else Failure.MACHINE, verdict.value
        )

    def Link(self, a: install.Link):
        self.disk.link("current.new", a.file)
        self.disk.rename_link("current.new", "current")
        self.disk.sync_root()
        return None if a.repair else install.Done(Step.LINK)

    def Commit(self, a: install.Commit):
        self.disk.transaction(
            active=a.intent.file,
            previous=a.previous,
            seen=max(self.disk.db.get("seen", 0), a.intent.sequence),
            intent=None,
        )
        return install.Done(Step.COMMIT)

    def Reject(self, a: install.Reject):
        self.disk.transaction(rejected=(a.release, *self.disk.db.get("rejected", ())), intent=None)

    def ForgetIntent(self, a: install.ForgetIntent):
        self.disk.transaction(intent=None)

    def Prune(self, a: install.Prune):
        for name in [n for n in self.disk.slots if n not in {k.hex() for k in a.keep}]:
            self.disk.unlink(name)

    def Tell(self, a: install.Tell):
        self.told.append(a.text)

    def TryLater(self, a: install.TryLater):
        pass

    def Settle(self, a: install.Settle):
        self.settle = True


def installed(file: bytes = OLD) -> Disk:
    """Return the disk of a device that runs a file."""
    name, inode = sha256(file), Inode(file, file)
    return Disk(
        slots={name.hex(): inode},
        synced_slots={name.hex(): inode},
        root={"current": name},
        synced_root={"current": name},
        db={"active": name, "seen": NOW, "previous": None, "rejected": (), "intent": None},
    )
