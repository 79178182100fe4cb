#!/usr/bin/env bash
# From a bare clone to a trained and evaluated model and a sample of its text: scripts/quickstart.sh [--minutes M] [OUT]
#
# First it shows what the model in the package does: a text, and its bits per byte on README.md and on the test split.
# Corpus: the standard library of this Python, 6 MB of code and documentation. All files go to OUT (work/quickstart).
# Training takes M minutes (4). A finished step is not repeated; an interrupted training resumes from its last checkpoint.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."

fail() { # fail CODE MESSAGE
  echo "quickstart: $2" >&2
  exit "$1"
}

out=work/quickstart
minutes=4
while [ $# -gt 0 ]; do
  case "$1" in
  --minutes)
    [[ "${2:-}" =~ ^[0-9]+(\.[0-9]+)?$ && "$2" =~ [1-9] ]] || fail 2 "--minutes needs a number above 0"
    minutes="$2"
    shift 2
    ;;
  -*) fail 2 "usage: scripts/quickstart.sh [--minutes M] [OUT]" ;;
  *)
    out="$1"
    [ "${out#/}" != "$out" ] || out="$here/$out"
    shift
    ;;
  esac
done

scripts/setup.sh
bin=.venv/bin
mkdir -p "$out"

# The model in the package is named by nothing: it is the default.
echo "quickstart: the model in the package, trained on books, writes"
"$bin/python" -m fairseq_sharnn sample --prompt "It was " --length 200 --temperature 0.7 --seed 1
"$bin/python" -m fairseq_sharnn score README.md 2>/dev/null

# The last value of a field in fairseq's log, whose lines are JSON.
logged() { # logged FIELD LINES
  sed -n 's/.*"'"$1"'": "\{0,1\}\([0-9.]*\).*/\1/p' <<<"$2" | tail -n 1
}

# Of the log: one line for every 25 updates and for every validation, and all errors.
show_progress() {
  local line
  while IFS= read -r line; do
    case "$line" in
    *"| train_inner |"*)
      printf '  update %5s   %s bits per byte   %s bytes/s\n' \
        "$(logged num_updates "$line")" "$(logged bpb "$line")" "$(logged wps "$line")"
      ;;
    *"| valid |"*) printf '  validation     %s bits per byte\n' "$(logged valid_bpb "$line")" ;;
    *[Ee]rror* | *ERROR*) printf '%s\n' "$line" ;;
    esac
  done
}

if [ ! -e "$out/data/test" ]; then
  echo "quickstart: corpus"
  "$bin/python" scripts/prepare_corpus.py stdlib "$out/data"
fi

echo "quickstart: its bits per byte on Python's library, which is no book"
"$bin/python" -m fairseq_sharnn score "$out/data/test" 2>/dev/null

# A rate that stays the same after its warm-up suits a training whose number of updates nobody knows beforehand.
if [ "$(cat "$out/trained" 2>/dev/null)" != "$minutes" ]; then
  echo "quickstart: training sha_rnn_tiny for $minutes minutes, 4,096 bytes an update (log: $out/train.log)"
  "$bin/fairseq-train" "$out/data" --user-dir fairseq_sharnn --task byte_level_lm --cpu \
    --arch sha_rnn_tiny --context-length 1024 --dropout 0.0 \
    --optimizer lamb_min_trust --lr 4e-3 --lr-scheduler fixed --warmup-updates 50 --clip-norm 0.25 \
    --batch-size 32 --tokens-per-sample 128 --stop-time-hours "$("$bin/python" -c "print($minutes / 60)")" \
    --save-dir "$out/checkpoints" --save-interval-updates 250 --keep-interval-updates 1 --no-epoch-checkpoints \
    --log-format json --log-interval 25 2>&1 |
    tee "$out/train.log" | show_progress || { tail -n 5 "$out/train.log" >&2; exit 1; }
  [ -e "$out/checkpoints/checkpoint_best.pt" ] && grep -q '| train |' "$out/train.log" ||
    fail 1 "no update ended within $minutes minutes: give more time with --minutes"
  echo "$minutes" >"$out/trained"
fi
end="$(grep '| train |' "$out/train.log")"
read_bytes="$("$bin/python" -c "print(f'{$(logged train_num_updates "$end") * $(logged train_wpb "$end") / 1e6:.1f} million')")"

echo "quickstart: evaluating the test split"
"$bin/fairseq-eval-lm" "$out/data" --user-dir fairseq_sharnn --task byte_level_lm --cpu \
  --path "$out/checkpoints/checkpoint_best.pt" --gen-subset test \
  --tokens-per-sample 512 --batch-size 8 --context-window 1024 --log-format none >"$out/eval.log" 2>&1 ||
  { tail -n 5 "$out/eval.log" >&2; exit 1; }
tokens="$(sed -n 's/.*Evaluated \([0-9,]*\) tokens.*/\1/p' "$out/eval.log")"
bits="$(sed -n 's/.*Loss (base 2): \([0-9.]*\),.*/\1/p' "$out/eval.log")"

echo "quickstart: a sample"
"$bin/python" -m fairseq_sharnn sample --model "$out/checkpoints/checkpoint_best.pt" \
  --prompt "    def read(self" --length 400 --temperature 0.7 --seed 1

echo
echo "quickstart: $bits bits per byte on the $tokens bytes of $out/data/test, after $read_bytes bytes of training in $minutes minutes"
