#!/usr/bin/env bash
# Make the Python environment, or find that it is made already: scripts/setup.sh [--stock-fairseq]
#
# .venv        Python 3.11 or 3.12, for which fairseq has wheels; else 3.13, 3.10, 3.9 or 3.8, where fairseq is compiled
# .venv-stock  Python 3.10, 3.9 or 3.8 with the official fairseq 0.12.2, for --stock-fairseq
#
# PYTHON=/path/to/python chooses the interpreter. The output of pip goes to setup.log in the environment.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
wanted="3.11 3.12 3.13 3.10 3.9 3.8"
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

has_wheel() { # whether fairseq has a wheel for this version of Python
  case "$(uname -sm) $1" in
  "Linux x86_64 3.11" | "Linux x86_64 3.12") ;;
  *) return 1 ;;
  esac
}

# The first interpreter of a wanted version that really starts: on PATH, or one of pyenv's.
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

stamp="${PYTHON:-} $(cat requirements.txt pyproject.toml setup.py scripts/setup.sh fairseq_sharnn/ops/csrc/* | cksum | cut -d' ' -f1)"
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
if ! has_wheel "$version"; then
  wheels="use Python 3.11 or 3.12 on x86-64 Linux, for which there are wheels"
  has_compiler || fail "fairseq compiles on Python $version and there is no C++ compiler: apt-get install g++ (or the like), or $wheels"
  headers="$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')"
  [ -e "$headers/Python.h" ] || fail "fairseq compiles on Python $version and $headers/Python.h is missing: apt-get install python$version-dev (or the like), or $wheels"
fi

"$python" -m venv --clear "$venv" >/dev/null 2>&1 || fail "$python -m venv failed: apt-get install python$version-venv (or the like)"
log="$venv/setup.log"
: >"$log"

beat=
trap '[ -z "$beat" ] || kill "$beat" 2>/dev/null' EXIT

# Say every 15 seconds (on a terminal: every second, in one line) how long a step has run, until this script ends.
heartbeat() {
  local seconds=0
  while sleep 1 && kill -0 $$ 2>/dev/null; do
    seconds=$((seconds + 1))
    if [ -t 1 ]; then
      printf '\rsetup: %s ... %d s' "$1" "$seconds"
    elif [ $((seconds % 15)) = 0 ]; then
      echo "setup: $1 ... $seconds s"
    fi
  done
}

steps=5
number=0
step() { # step NAME COMMAND...
  number=$((number + 1))
  local name="$number of $steps: $1" begun=$SECONDS before done_
  shift
  before="$(wc -l <"$log")"
  if [ -t 1 ]; then printf 'setup: %s ...' "$name"; else echo "setup: $name ..."; fi
  # bash may complain, in either process, when the heartbeat's sleep starts or ends as it is killed
  exec 3>&2 2>/dev/null
  heartbeat "$name" 3>&- &
  beat=$!
  done_=yes
  "$@" >>"$log" 2>&1 3>&- || done_=no
  kill "$beat" || true
  wait "$beat" || true
  beat=
  exec 2>&3 3>&-
  if [ $done_ = yes ]; then
    if [ -t 1 ]; then printf '\r'; fi
    echo "setup: $name: done in $((SECONDS - begun)) s"
    return
  fi
  if [ -t 1 ]; then echo; fi
  if tail -n "+$((before + 1))" "$log" | grep -qE 'NewConnectionError|ConnectTimeout|Temporary failure in name resolution|Read timed out|ProxyError|No matching distribution found'; then
    fail "$name failed: the package index was not reached or lacks a package; check the network and pip's index settings ($log)"
  fi
  tail -n 15 "$log" >&2
  fail "$name failed; all of pip's output is in $log"
}

fairseq() {
  case "$1" in
  # isolated: where it sees torch, fairseq 0.12.2 compiles files that its source package lacks
  3.8 | 3.9 | 3.10) "${pip[@]}" -c requirements.txt fairseq==0.12.2 ;;
  *)
    if has_wheel "$1"; then
      "${pip[@]}" --no-deps --only-binary :all: ve-fairseq==0.12.3
    else
      "${pip[@]}" --no-deps --no-build-isolation fairseq-fixed==0.12.3.1
    fi
    ;;
  esac
}

pip=("$venv/bin/python" -m pip install --disable-pip-version-check)
compiled=
has_wheel "$version" || compiled=" (compiled: 5 to 8 minutes)"
case $version in
3.8 | 3.9 | 3.10) step "an older pip, which fairseq 0.12.2 needs" "${pip[@]}" 'pip<24.1' ;;
*) step "pip" "${pip[@]}" 'pip>=23' ;;
esac
step "torch and the build tools (a large download)" \
  "${pip[@]}" -c requirements.txt torch numpy cython setuptools wheel
step "fairseq$compiled" fairseq "$version"
step "what fairseq, the tests and the plots need" "${pip[@]}" -r requirements.txt
step "fairseq_sharnn and its CPU kernels (up to a minute)" \
  "${pip[@]}" --no-build-isolation --no-deps -e .
"$venv/bin/python" -c 'import fairseq_sharnn' >>"$log" 2>&1 || fail "the installed package does not import; see: $venv/bin/python -c 'import fairseq_sharnn'"
echo "$stamp" >"$venv/.ready"
echo "setup: ready in $SECONDS s: source $venv/bin/activate"
