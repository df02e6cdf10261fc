# SPDX-License-Identifier: Apache-2.0
"""`edgefl demo` end to end in small: its figures, its failures, and that nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edgefl
from edgefl.demo import command

KEYS = {
    "devices", "hubs", "rounds", "metric", "before", "after", "before_unseen", "after_unseen",
    "round_seconds", "quorum_to_installed_seconds", "upload_bytes_per_device", "model_bytes", "patch_bytes",
    "worker_peak_rss_bytes", "supervisor_idle_pss_bytes",
}  # fmt: skip
PARAMETERS = 17_643
LONG = ("--devices", "2", "--rounds", "500")


def processes(mark: str) -> dict[int, str]:
    """Find processes with `mark` in their environment, which hubs, devices and workers inherit as TMPDIR."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = words.decode(errors="replace")
    return found


def mark_of(folder: Path) -> str:
    return f"{folder.parent}/tmp-of-the-demo"


def left(folder: Path) -> dict[int, str]:
    return processes(mark_of(folder))


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgefl", "demo", "--keep", str(folder), *args],
        env={**os.environ, "TMPDIR": mark_of(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job that a shell put in the background ignores SIGINT, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(what: Callable[[], bool], limit_s: float = 60.0) -> None:
    until = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)


def trains(folder: Path) -> bool:
    log = folder / "logs" / "device-02.log"
    return log.exists() and "round.train.begun" in log.read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "demo"
    assert left(tmp_path / "demo") == {}


def test_demo_json_has_every_figure_and_leaves_no_process(folder: Path) -> None:
    demo = start(folder, "--devices", "3", "--rounds", "2", "--json")
    out, err = demo.communicate(timeout=150)
    assert demo.returncode == 0, err
    assert out.count("\n") == 1
    figures = json.loads(out)
    assert set(figures) >= KEYS
    assert (figures["devices"], figures["hubs"], figures["rounds"], figures["rounds_void"]) == (3, 2, 2, 0)
    assert figures["devices_updated"] == 3
    # Three patients, N and V only: two rounds take them from 55.8 to above 90.
    assert figures["after"] > figures["before"] + 20
    assert figures["upload_payload_bytes"] <= 2 * PARAMETERS
    assert figures["upload_header_bytes"] < 1024
    assert 0 < figures["patch_bytes"] < figures["model_bytes"] == 25_000
    assert figures["worker_peak_rss_bytes"] <= 80_000_000
    assert figures["supervisor_idle_pss_bytes"] <= 40_000_000
    assert figures["folder"] == str(folder) and (folder / "leader" / "hub.toml").exists()
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    assert not [p for p in files if b"edgefl1." in p.read_bytes()], "an enrolment token stayed"


def test_children_run_the_installed_package_not_that_of_the_working_folder(
    folder: Path, tmp_path: Path
) -> None:
    """In a checkout where nothing is compiled, `edgefl demo` is the installed command."""
    decoy = tmp_path / "checkout"
    for package in ("edgefl", "server_min"):
        (decoy / package).mkdir(parents=True)
        (decoy / package / "__init__.py").write_text("raise SystemExit('not this one')")
    script = tmp_path / "bin" / "edgefl"
    script.parent.mkdir()
    script.write_text("import sys; from edgefl.cli.main import main; sys.exit(main())")
    root = Path(edgefl.__file__).resolve().parents[1]
    demo = subprocess.run(
        [sys.executable, script, "demo", "--keep", folder, "--devices", "2", "--rounds", "1", "--json"],
        cwd=decoy,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert demo.returncode == 0, demo.stderr
    assert json.loads(demo.stdout)["devices_updated"] == 2


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_cleans_up(folder: Path, name: signal.Signals) -> None:
    demo = start(folder, *LONG)
    wait_until(lambda: trains(folder))
    demo.send_signal(name)
    _, err = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert err == "edgefl: interrupted\n"


def test_killed_demo_takes_its_processes_along(folder: Path) -> None:
    demo = start(folder, *LONG)
    wait_until(lambda: trains(folder))
    assert len(left(folder)) >= 1 + 2 + 2 + 1  # itself, hubs, devices, the command that follows the rounds
    demo.kill()
    demo.communicate(timeout=30)
    wait_until(lambda: not left(folder), 20)


@pytest.mark.parametrize("victim", ["run --config", "serve"])
def test_dead_process_ends_the_demo_with_its_last_words(folder: Path, victim: str) -> None:
    demo = start(folder, *LONG)
    wait_until(lambda: trains(folder))
    os.kill(next(pid for pid, words in left(folder).items() if f" {victim} " in words), signal.SIGKILL)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 75
    assert "ended with code -9" in err and str(folder / "logs") in err and err.count("\n") == 1


def test_impossible_options_exit_64(folder: Path) -> None:
    folder.mkdir()
    (folder / "mine").write_text("keep me")
    cases = {
        ("--devices", "1"): "outside 2..64",
        ("--devices", "65"): "outside 2..64",
        ("--rounds", "0"): "outside 1..1000",
        ("--seed", "-1"): "outside 0..",
        (): "is not an empty folder",
    }
    for args, text in cases.items():
        demo = start(folder, *args)
        _, err = demo.communicate(timeout=30)
        assert (demo.returncode, err.count("\n")) == (64, 1) and text in err
    assert [p.name for p in folder.iterdir()] == ["mine"]


def test_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "NEEDED", ("rich", "no_such_package"))
    with pytest.raises(command.Unavailable, match=r"no_such_package; pip install 'edgefl\[demo\]'") as caught:
        command.require_extras()
    assert caught.value.exit_code == 69
