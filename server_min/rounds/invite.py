# SPDX-License-Identifier: Apache-2.0
"""Who is invited to a round, when it may start, and the terms that it starts with.

In: what devices last said, the task's settings.  Out: the invited devices, or none yet; the manifest's draft.
Invites live devices that run the newest file and whose estimate fits the deadline, at most `n_max`, in the
order given (the caller shuffles).  Starts at once when every live device is ready, else after `settle_s` with
the quorum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgefl.secagg.params import ring_params
from edgefl.wire.messages import Helper, Leader, Manifest, Task
from server_min.store import Settings

ROUND_KEY_LATER = bytes(32)


@dataclass(frozen=True)
class Candidate:
    """A live device of the task."""

    device: bytes
    ready: bool  # runs the newest file and is not in another round
    estimate_ms: int


def choose(
    candidates: Sequence[Candidate], settings: Settings, *, waited_s: float, settle_s: float
) -> tuple[bytes, ...]:
    """Return the devices to invite, or nothing while it is better to wait.

    Parameters
    ----------
    waited_s : float
        Since the round was due, the last release came out or the newest device appeared, whichever is later.
    settle_s : float
        How long to wait for live devices that are not ready.
    """
    fit = [c.device for c in candidates if c.ready and c.estimate_ms <= settings.deadline_s * 1000]
    all_ready = all(c.ready for c in candidates)
    if len(fit) < settings.quorum or not (all_ready or waited_s >= settle_s):
        return ()
    return tuple(fit[: settings.n_max])


def draft(
    task: Task,
    settings: Settings,
    *,
    round_id: bytes,
    number: int,
    task_hash: bytes,
    model: bytes,
    now: float,
    leader: Leader,
    helper_key: bytes,
    helper_operator: str,
) -> Manifest:
    """Return the manifest that the helper completes with its round key."""
    shape = ring_params(task.width, task.value_bits, settings.n_max, task.dim)
    return Manifest(
        round=round_id,
        number=number,
        task=task_hash,
        model=model,
        mode=task.mode,
        quorum=settings.quorum,
        n_max=settings.n_max,
        width=task.width,
        bits=shape.bits,
        value_bits=task.value_bits,
        dim=task.dim,
        length=shape.length,
        scale=task.scale,
        clip=task.clip,
        deadline=int(now) + settings.deadline_s,
        leader=leader,
        helper=Helper(helper_key, helper_operator, ROUND_KEY_LATER),
    )
