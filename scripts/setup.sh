#!/usr/bin/env bash
# Make the Python environment, or find that it is already made: scripts/setup.sh [--stock-fairseq]
#
# .venv        Python 3.11 or 3.12 with fairseq-fixed (or 3.8 to 3.10 with the official fairseq, if that is all there is)
# .venv-stock  Python 3.10 with the official fairseq 0.12.2, for --stock-fairseq
#
# PYTHON=/path/to/python chooses the interpreter. Everything that pip prints goes to the environment's setup.log.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
wanted="3.11 3.12 3.10 3.9 3.8"
if [ "${1:-}" = "--stock-fairseq" ]; then
  venv=.venv-stock
  wanted="3.10 3.9 3.8"
elif [ $# -gt 0 ]; then
  echo "usage: scripts/setup.sh [--stock-fairseq]" >&2
  exit 2
fi

fail() {
  echo "setup: $1" >&2
  exit 1
}

has_compiler() {
  command -v c++ >/dev/null || command -v g++ >/dev/null
}

# fairseq has a wheel for 3.12 alone: without a compiler, that is the one to look for.
if [ "$venv" = .venv ] && ! has_compiler; then
  wanted="3.12 3.11 3.10 3.9 3.8"
fi

# The first interpreter of a wanted version that really starts: on PATH, or among pyenv's.
find_python() {
  local version candidate
  for version in $wanted; do
    for candidate in "python$version" python3 "${PYENV_ROOT:-${HOME:-/nowhere}/.pyenv}"/versions/"$version".*/bin/python; do
      if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$version" ]; then
        echo "$candidate"
        return
      fi
    done
  done
}

stamp="${PYTHON:-} $(cat requirements.txt setup.py scripts/setup.sh fairseq_sharnn/ops/csrc/* | cksum | cut -d' ' -f1)"
if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.ready" 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi

python="${PYTHON:-$(find_python)}"
[ -n "$python" ] || fail "no Python ${wanted// / or } found (python3 is $( (python3 --version || echo missing) 2>/dev/null)): install one, or name it with PYTHON=/path/to/python"
version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" || fail "$python does not start"
case " $wanted " in
*" $version "*) ;;
*) fail "$python is Python $version; needed is one of: $wanted. Name another with PYTHON=/path/to/python" ;;
esac
if [ "$version" != 3.12 ] && ! has_compiler; then
  fail "fairseq compiles on Python $version and there is no C++ compiler: apt-get install g++ (or the like), or use Python 3.12, for which there is a wheel"
fi
headers="$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')"
if [ "$version" != 3.12 ] && [ ! -e "$headers/Python.h" ]; then
  fail "fairseq compiles on Python $version and $headers/Python.h is missing: apt-get install python$version-dev (or the like)"
fi

"$python" -m venv --clear "$venv" >/dev/null 2>&1 || fail "$python -m venv failed: apt-get install python$version-venv (or the like)"
log="$venv/setup.log"
: >"$log"

step() {
  local told="$1"
  shift
  echo "setup: $told"
  local before
  before="$(wc -l <"$log")"
  if ! "$@" >>"$log" 2>&1; then
    if tail -n "+$((before + 1))" "$log" | grep -qE 'NewConnectionError|ConnectTimeout|Temporary failure in name resolution|Read timed out|ProxyError|No matching distribution found'; then
      fail "$told failed: the package index was not reached or lacks a package; check the network and pip's index settings ($log)"
    fi
    tail -n 15 "$log" >&2
    fail "$told failed; all of pip's output is in $log"
  fi
}

pip=("$venv/bin/python" -m pip install --disable-pip-version-check)
case $version in
3.8 | 3.9 | 3.10) step "an older pip, which fairseq 0.12.2 needs (1 of 4)" "${pip[@]}" 'pip<24.1' ;;
*) step "pip (1 of 4)" "${pip[@]}" 'pip>=23' ;;
esac
step "torch and the build tools (2 of 4; a large download where no wheel is at hand)" \
  "${pip[@]}" -c requirements.txt torch numpy cython setuptools wheel
case $version in
3.12) step "fairseq and the rest (3 of 4)" "${pip[@]}" --no-build-isolation -r requirements.txt ;;
3.11) step "fairseq, compiled, and the rest (3 of 4; up to 5 minutes)" "${pip[@]}" --no-build-isolation -r requirements.txt ;;
# isolated: where it sees torch, fairseq 0.12.2 compiles files that its source package lacks
*) step "fairseq, compiled, and the rest (3 of 4; up to 5 minutes)" "${pip[@]}" -r requirements.txt ;;
esac
step "fairseq_sharnn itself, with its CPU kernels where there is a compiler (4 of 4; about two minutes)" \
  "${pip[@]}" --no-build-isolation --no-deps -e .
"$venv/bin/python" -c 'import fairseq_sharnn' >>"$log" 2>&1 || fail "the installed package does not import; see: $venv/bin/python -c 'import fairseq_sharnn'"
echo "$stamp" >"$venv/.ready"
