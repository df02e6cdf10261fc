# SPDX-License-Identifier: Apache-2.0
"""A real ARM Python that runs on x86 under qemu's user mode: Debian's packages unpacked into a folder.

In: an architecture and a folder.  Out: the command that starts it, with edgefl's C core cross-built for it.
Needs apt (Debian 12's lists: a private state and cache, the machine's own sources), qemu-user-static and
ziglang; no root, no chroot, no binfmt.  A step that fails ends with its message.
Invariant: nothing outside the folder changes.  Source: docs/architecture.md, boards/README.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = """libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libcrypt1 libbz2-1.0 liblzma5 libuuid1
    python3.11-minimal libpython3.11-minimal python3.11 libpython3.11-stdlib media-types
    python3-cffi-backend python3-numpy libblas3 liblapack3 libgfortran5""".split()
HEADERS = ["libpython3.11-dev", "libexpat1-dev", "zlib1g-dev"]
PURE = ("tflite", "flatbuffers")  # packages without machine code: the host's files serve


@dataclass(frozen=True)
class Target:
    """One architecture: Debian's name and library folder, zig's target, qemu's program, CPUs to run."""

    debian: str
    triplet: str
    zig: tuple[str, ...]
    platform: str
    qemu: str
    cpus: tuple[str, ...]


TARGETS = {
    "aarch64": Target(
        "arm64",
        "aarch64-linux-gnu",
        ("-target", "aarch64-linux-gnu.2.17"),
        "linux-aarch64",
        "qemu-aarch64-static",
        ("cortex-a53", "cortex-a76", "max"),
    ),
    "armv7": Target(
        "armhf",
        "arm-linux-gnueabihf",
        ("-target", "arm-linux-gnueabihf.2.17", "-mcpu=generic+v7a+neon+vfp3"),
        "linux-armv7l",
        "qemu-arm-static",
        ("cortex-a7",),
    ),
}


def run(command: list[str], **options: object) -> None:
    """Run a step; its output is shown only if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... failed:\n{(done.stdout + done.stderr)[-2000:]}")


def unpack(target: Target, folder: Path) -> Path:
    """Download and unpack the packages once; give the root folder."""
    root, done = folder / "root", folder / "unpacked"
    if done.exists():
        return root
    for part in ("state/lists/partial", "cache/archives/partial", "debs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    options = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": target.debian,
        "APT::Architectures::": target.debian,
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(part for k, v in options.items() for part in ("-o", f"{k}={v}"))]
    # A mirror that is being synchronised may refuse one list; the download says whether that mattered.
    subprocess.run([*apt, "update"], capture_output=True, check=False)
    run([*apt, "download", *PACKAGES, *HEADERS], cwd=folder / "debs")
    for deb in sorted((folder / "debs").glob("*.deb")):
        run(["dpkg-deb", "-x", str(deb), str(root)])
    for name in ("blas", "lapack"):  # dpkg's alternatives would make these links
        lib = root / "usr/lib" / target.triplet
        (lib / f"lib{name}.so.3").symlink_to(f"{name}/lib{name}.so.3")
    done.touch()
    return root


def build_core(name: str, target: Target, root: Path, site: Path) -> None:
    """Cross-build edgefl.native._core beside a copy of the package."""
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(ROOT / "edgefl", site / "edgefl", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for package in PURE:
        found = __import__(package).__file__
        assert found
        shutil.copytree(Path(found).parent, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    zig = " ".join([sys.executable, "-m", "ziglang"])
    cc = " ".join([zig, "cc", *target.zig])
    env = os.environ | {
        "CC": cc,
        "LDSHARED": f"{cc} -shared",
        "AR": f"{zig} ar",
        "CFLAGS": "-O3 -g0",
        "LDFLAGS": "-s",
        "_PYTHON_HOST_PLATFORM": target.platform,
    }
    if name == "armv7":  # the host's headers are for 64 bits
        env["CPPFLAGS"] = f"-I{root}/usr/include/python3.11 -I{root}/usr/include"
    work = site.parent / "build"
    command = [sys.executable, "setup.py", "-q", "build_ext", f"--build-lib={site}", f"--build-temp={work}"]
    run([*command, "--force"], cwd=ROOT, env=env)


def arm_python(name: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Prepare everything; give the command that starts Python and its environment, without QEMU_CPU."""
    target = TARGETS[name]
    folder = folder.resolve() / name
    folder.mkdir(parents=True, exist_ok=True)
    root, site = unpack(target, folder), folder / "site"
    build_core(name, target, root, site)
    env = {
        "QEMU_LD_PREFIX": str(root),
        "PYTHONHOME": str(root / "usr"),
        "PYTHONPATH": os.pathsep.join([str(site), str(root / "usr/lib/python3/dist-packages")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PATH": os.environ["PATH"],
    }
    return [target.qemu, str(root / "usr/bin/python3.11")], env
