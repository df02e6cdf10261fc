# SPDX-License-Identifier: Apache-2.0
"""The configuration loader: refusals first; the example file is in step with the dataclasses."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.config.device import Config
from edgefl.config.load import example, load
from edgefl.errors import ConfigError

BASE = Path("/etc/edgefl")


@pytest.mark.parametrize(
    "text, message",
    [
        ("[worker]\nnice = 20", r"\[worker\] nice = 20 is outside 0\.\.19"),
        ("[worker]\nnice = true", "must be an integer"),
        ("[worker]\nmemory = 3", "did you mean memory_mib"),
        ("[worker]\ncpus = [0, -1]", "outside"),
        ("[worker]\ncpus = 1", "array"),
        ("[wroker]\nnice = 3", "did you mean worker"),
        ("worker = 3", "must be a table"),
        ("[data]\nfolder = 3", "must be a path"),
        ("[policy]\nquorum_min = 0", "outside"),
        ("[policy]\ndeadline_margin_s = nan", "outside"),
        ("[transport]\nbackoff_min_s = inf", "outside"),
        ("[log]\nformat = 'xml'", "one of text, json"),
        ("[log\n", "not TOML"),
        ("[hub]\nurl = 'a'\nurl = 'b'", "not TOML"),
        ("verbose = true", "unknown table: verbose"),
    ],
)
def test_bad_configuration_is_one_line(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(text, Config, BASE)
    assert caught.value.exit_code == 78
    assert "\n" not in str(caught.value)


def test_example_file_gives_the_defaults():
    text = example(Config)
    assert load(text, Config, BASE) == Config()
    uncommented = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines()
    )
    assert load(uncommented, Config, BASE) == Config()


def test_documentation_holds_the_example():
    page = Path(__file__).resolve().parents[2] / "docs" / "edgefl.toml"
    if not page.parent.is_dir():
        pytest.skip("needs the checkout's docs folder")
    assert page.read_text() == example(Config), (
        "write it anew: edgefl run --example-config > docs/edgefl.toml"
    )


def test_relative_paths_start_at_the_file():
    config = load("[state]\nfolder = 'state'\n[data]\nfolder = '/d'", Config, BASE)
    assert config.state.folder == BASE / "state"
    assert config.data.folder == Path("/d")
    assert load("[transport]\nbackoff_min_s = 2", Config, BASE).transport.backoff_min_s == 2.0
