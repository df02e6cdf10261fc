#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `build.sh OUT`: compiles tests/fuzz/fuzz_plan.c and the C core with clang, libFuzzer, AddressSanitizer and the
# memory checks of UBSan. Needs clang and its runtime (Debian: clang libclang-rt-14-dev).
set -eu
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
checks=bounds,null,alignment,integer-divide-by-zero,pointer-overflow
flags="-O2 -g -w -ffp-contract=off -fsanitize-coverage=inline-8bit-counters,pc-table -fsanitize=address,$checks -fno-sanitize-recover=$checks"
for c in csrc/core/*.c csrc/nn/*.c csrc/arch/*.c csrc/secagg/*.c csrc/dp/*.c tests/fuzz/fuzz_plan.c; do
    case $c in # clang does not follow the target pragmas of gcc
    *_avx2.c) target="-mavx2" ;;
    *_avxvnni.c) target="-mavx2 -mavxvnni" ;;
    *_avx512*.c) target="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni" ;;
    *) target= ;;
    esac
    # shellcheck disable=SC2086
    clang $flags $target -Icsrc/include -Icsrc -c "$c" -o "$out/$(echo "$c" | tr / _).o" &
    [ "$(jobs -p | wc -l)" -lt 2 ] || wait
done
wait
clang -fsanitize=fuzzer,address "$out"/*.o -o "$1"
