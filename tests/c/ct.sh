#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Constant time of the secret-handling kernels, as they are compiled for release, under valgrind.
set -eu
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
${CC:-gcc} -std=c11 -O3 -g -ffp-contract=off -fno-math-errno -fno-stack-protector -Icsrc/include -Icsrc \
    -o "$out/ct_secagg" tests/c/ct_secagg.c $(find csrc -name '*.c')
check="valgrind -q --error-exitcode=1"
timeout 300 $check "$out/ct_secagg"
if timeout 300 $check "$out/ct_secagg" leak >/dev/null 2>&1; then
    echo "the planted leak was not noticed" >&2
    exit 1
fi
