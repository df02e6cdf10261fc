#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds every tests/c/test_*.c with the whole core under ASan and UBSan and runs it.
# Other compilers and emulators: CC="zig cc -target aarch64-linux-musl" SAN= RUN=qemu-aarch64-static sh tests/c/run.sh
set -eu
cd "$(dirname "$0")/../.."
CC=${CC:-gcc}
SAN=${SAN--fsanitize=address,undefined -fno-sanitize-recover=all}
RUN=${RUN:-}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags="-std=c11 -O2 -g -ffp-contract=off -fno-math-errno -pthread -Wall -Wextra -Wconversion -Wshadow -Werror"
core=$(ls csrc/core/*.c csrc/nn/*.c csrc/arch/*.c csrc/dp/*.c csrc/secagg/*.c csrc/ota/*.c 2>/dev/null || true)
for c in $core; do
    # two at a time: the machine may be small
    $CC $flags $SAN -Icsrc/include -Icsrc -c "$c" -o "$out/$(echo "$c" | tr / _).o" &
    [ "$(jobs -p | wc -l)" -lt 2 ] || wait
done
wait
for t in tests/c/test_*.c; do
    name=$(basename "$t" .c)
    $CC $flags $SAN -Icsrc/include -Icsrc "$t" "$out"/*.o -o "$out/$name"
    $RUN "$out/$name"
    echo "$name ok"
done
