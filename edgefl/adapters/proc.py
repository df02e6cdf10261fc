# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of this process: its largest resident memory.

In: /proc/self/status.  Out: bytes.  Refuses nothing: 0 where there is no such file.
"""

from __future__ import annotations


def peak_memory() -> int:
    """Return the largest resident size so far in bytes.

    Not ru_maxrss: it starts from the parent's size, whose memory a child shares until exec.
    """
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
