# SPDX-License-Identifier: Apache-2.0
"""Build of the C core; everything else is in pyproject.toml.

`python setup.py -q build_clib build_ext --inplace` builds in place; an object file is compiled again only
when its source, any header or this build changed.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
# csrc and the generated glue are found relative to the repository.
os.chdir(ROOT)


class BuildExt(build_ext):
    """build_ext that keeps objects newer than everything they could depend on."""

    def build_extension(self, ext):
        """Compile what changed, then link."""
        plain = self.compiler._compile
        shared = [*ROOT.glob("csrc/**/*.h"), ROOT / "setup.py", ROOT / "edgefl" / "native" / "build.py"]
        newest = max(p.stat().st_mtime for p in shared)

        def compile_changed(obj, src, *rest):
            if os.path.exists(obj) and os.path.getmtime(obj) > max(newest, os.path.getmtime(src)):
                return
            plain(obj, src, *rest)

        self.compiler._compile = compile_changed
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = plain


setup(
    license="Apache-2.0",
    cffi_modules=["edgefl/native/build.py:ffi"],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
