#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Cross-builds the C core and its tests for aarch64 and armv7 with zig (pip install ziglang) and, where qemu's user
# mode emulator is installed, runs them on several CPUs. Shows correctness only; no timing comes from an emulator.
set -eu
cd "$(dirname "$0")/.."
PY=${PY:-python3}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags="-std=c11 -O3 -g0 -ffp-contract=off -fno-math-errno -fno-stack-protector -pthread -Wall -Wextra -Wconversion -Wshadow -Werror -Icsrc/include -Icsrc"

lane() { # name, zig target and cpu flags, emulator, CPUs
    name=$1 target=$2 emulator=$3
    shift 3
    for test in tests/c/test_*.c; do
        bin="$out/$(basename "$test" .c)-$name"
        # shellcheck disable=SC2086,SC2046
        $PY -m ziglang cc -target $target $flags -static -o "$bin" "$test" $(find csrc -name '*.c')
        if ! command -v "$emulator" >/dev/null; then
            echo "built $(basename "$bin"), not run: no $emulator"
            continue
        fi
        for cpu in "$@"; do
            echo "$(basename "$test" .c) on $name $cpu"
            QEMU_CPU=$cpu timeout 300 "$emulator" "$bin"
        done
    done
}

lane aarch64 "aarch64-linux-musl" qemu-aarch64-static cortex-a53 cortex-a76 max
lane armv7 "arm-linux-musleabihf -mcpu=generic+v7a+neon+vfp3" qemu-arm-static cortex-a7
