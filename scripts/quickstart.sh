#!/usr/bin/env bash
# From a bare clone to a trained, evaluated model and a sample of its text: scripts/quickstart.sh [OUT]
#
# Corpus: the standard library of this Python, 6 MB of code and documentation. Everything lands in OUT (work/quickstart).
# A finished step is not repeated; an interrupted training goes on from its last checkpoint.
set -euo pipefail
here="$PWD"
cd "$(dirname "$0")/.."
out="${1:-work/quickstart}"
if [ $# -gt 0 ] && [ "${out#/}" = "$out" ]; then
  out="$here/$out"
fi
updates=1000

scripts/setup.sh
bin=.venv/bin
mkdir -p "$out"

if [ ! -e "$out/data/test" ]; then
  echo "quickstart: corpus"
  "$bin/python" scripts/prepare_corpus.py stdlib "$out/data"
fi

if [ ! -e "$out/trained" ]; then
  echo "quickstart: training $updates updates of sha_rnn_tiny, 4,096 bytes each ($out/train.log; about 5 minutes on two cores)"
  "$bin/fairseq-train" "$out/data" --user-dir fairseq_sharnn --task byte_level_lm --cpu \
    --arch sha_rnn_tiny --context-length 1024 --dropout 0.0 \
    --optimizer lamb_min_trust --lr 4e-3 --lr-scheduler fixed --warmup-updates 50 --clip-norm 0.25 \
    --batch-size 32 --tokens-per-sample 128 --max-update "$updates" \
    --save-dir "$out/checkpoints" --save-interval-updates 250 --keep-interval-updates 1 --no-epoch-checkpoints \
    --log-format json --log-interval 25 2>&1 |
    tee "$out/train.log" |
    "$bin/python" -u -c '
import json, sys
for line in sys.stdin:
    start = line.find("{")
    if start >= 0 and ("train_inner" in line or "| valid |" in line):
        log = json.loads(line[start:])
        if "train_inner" in line:
            print("  update {num_updates:>5}   {bpb} bits per byte   {wps} bytes/s".format(**log))
        else:
            print("  validation     {valid_bpb} bits per byte".format(**log))
    elif "error" in line.lower():
        print(line, end="")
' || { tail -n 5 "$out/train.log" >&2; exit 1; }
  touch "$out/trained"
fi

echo "quickstart: evaluating the test split"
"$bin/fairseq-eval-lm" "$out/data" --user-dir fairseq_sharnn --task byte_level_lm --cpu \
  --path "$out/checkpoints/checkpoint_best.pt" --gen-subset test \
  --tokens-per-sample 512 --batch-size 8 --context-window 1024 --log-format none >"$out/eval.log" 2>&1 ||
  { tail -n 5 "$out/eval.log" >&2; exit 1; }
tokens="$(sed -n 's/.*Evaluated \([0-9,]*\) tokens.*/\1/p' "$out/eval.log")"
bits="$(sed -n 's/.*Loss (base 2): \([0-9.]*\),.*/\1/p' "$out/eval.log")"

echo "quickstart: a sample"
"$bin/python" - "$out" <<'PYTHON'
import logging
import sys

logging.disable(logging.INFO)
from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel

model = SHARNNLanguageModel.from_pretrained(f"{sys.argv[1]}/checkpoints", "checkpoint_best.pt", sys.argv[1])
print(model.sample("    def read(self", length=400, temperature=0.7, seed=1))
PYTHON

echo
echo "quickstart: $bits bits per byte on the $tokens bytes of $out/data/test"
