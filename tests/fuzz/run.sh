#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `run.sh [SECONDS]`: fuzzes csrc's plan check and runs (libFuzzer, ASan) and the model reader (Atheris), each for
# so many seconds (60), from the seeds of seeds.py.  FUZZ_DIR keeps corpus and findings (default: thrown away).
# Needs clang with its runtime, and `pip install atheris` into PY (default: python3) beside edgefl.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-60}
py=${PY:-python3}
dir=${FUZZ_DIR:-$(mktemp -d)}
[ -n "${FUZZ_DIR:-}" ] || trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/plan" "$dir/reader"
"$py" "$here/seeds.py" "$dir/seeds"
cp "$here"/found/plan_* "$dir/seeds/plan" # what was found once
sh "$here/build.sh" "$dir/fuzz_plan"
common="-max_total_time=$seconds -rss_limit_mb=1024 -timeout=20 -verbosity=0 -print_final_stats=1"
cd "$dir" # findings are written here
# shellcheck disable=SC2086
"$dir/fuzz_plan" $common -max_len=192 -entropic=0 "$dir/plan" "$dir/seeds/plan"
# shellcheck disable=SC2086
"$py" "$here/fuzz_reader.py" $common -max_len=16384 "$dir/reader" "$dir/seeds/reader" 2>&1 | grep -v Instrumenting
