# Names for the commands that .ci/run, developers and users share. No logic lives here.
PY ?= python3

.PHONY: dev test lint format san fuzz ct cross bits engine bench demo wheel

dev:        ## editable install with everything
	$(PY) -m pip install -e '.[dev]'

test:       ## the README's test command
	$(PY) -m pytest

lint:       ## style, types, C format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	clang-format --dry-run --Werror $$(git ls-files 'csrc/*.c' 'csrc/*.h' 'tests/c/*.c' 'tests/c/*.h' 'tests/fuzz/*.c')

format:     ## rewrite to the house style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	clang-format -i $$(git ls-files 'csrc/*.c' 'csrc/*.h' 'tests/c/*.c' 'tests/c/*.h' 'tests/fuzz/*.c')

san:        ## C tests under ASan and UBSan
	sh tests/c/run.sh

fuzz:       ## plan check and model reader, a minute each; needs clang and atheris
	PY=$(PY) sh tests/fuzz/run.sh 60

ct:         ## constant time of the secret-handling kernels, under valgrind
	sh tests/c/ct.sh

cross:      ## the C core for aarch64 and armv7
	sh boards/cross.sh

bits:       ## the same training on every instruction set, here and on emulated ARM
	$(PY) boards/same_bits.py

engine:     ## the int8 engine against other runtimes
	$(PY) bench/engine.py

bench:      ## footprint of supervisor and worker
	$(PY) bench/footprint.py

demo:       ## the whole loop on real ECG records
	$(PY) -m edgefl demo

wheel:      ## one abi3 wheel for this machine
	$(PY) -m pip wheel --no-deps -w dist .
