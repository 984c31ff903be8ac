#!/bin/sh
# A training that is killed (SIGKILL) again and again and resumed each time must leave the bytes of one that never stopped:
# adapter, checkpoint, and metrics.jsonl without tokens_per_second. Also SIGTERM (as Ctrl-C), a changed recipe, and other threads and
# memory on the way.
# Usage: resume.sh [TOQUE MODEL.gguf]; else from the environment, TOQUE and TOQUE_TEST_MODEL
set -eu
toque=${1:-$TOQUE} model=${2:-$TOQUE_TEST_MODEL}
dir=$(mktemp -d)
child=
trap 'test -z "$child" || kill -9 "$child" 2>/dev/null || :; rm -rf "$dir"' EXIT
fail() { echo "resume.sh: FAILED: $*" >&2; exit 1; }

i=0
while [ $i -lt 24 ]; do
    printf '{"messages":[{"role":"user","content":"Number %d?"},{"role":"assistant","content":"It comes after %d."}]}\n' \
        $i $((i - 1))
    i=$((i + 1))
done >"$dir/rows.jsonl"
set -- -m "$model" -d "$dir/rows.jsonl" --rank 4 --batch-size 2 --epochs 1 --eval-split 0.1 --eval-every 4 --save-every 2 \
    --dropout 0.05 --quiet
"$toque" tune "$@" -o "$dir/whole" >/dev/null

lines() { if [ -f "$dir/cut/metrics.jsonl" ]; then wc -l <"$dir/cut/metrics.jsonl"; else echo 0; fi; }
# Starts or resumes, and kills with $1 as soon as $2 more lines of metrics are there.
interrupt() {
    signal=$1 more=$2
    shift 2
    before=$(lines)
    "$toque" tune "$@" >/dev/null 2>"$dir/err" &
    child=$!
    while kill -0 $child 2>/dev/null; do
        now=$(lines)
        # A resumed run first removes lines, so fewer than before count as none.
        [ "$now" -lt "$before" ] && before=$now
        [ "$now" -ge $((before + more)) ] && break
        sleep 0.05
    done
    kill -"$signal" $child 2>/dev/null || :
    if wait $child; then code=0; else code=$?; fi
    child=
}
interrupt KILL 2 "$@" -o "$dir/cut"
interrupt KILL 3 -o "$dir/cut" --resume --quiet
interrupt KILL 1 -o "$dir/cut" --resume --quiet --threads 1
interrupt TERM 2 -o "$dir/cut" --resume --quiet
[ $code -eq 0 ] || grep -q -- --resume "$dir/err" || fail "SIGTERM does not say how to go on: $(cat "$dir/err")"
if "$toque" tune -o "$dir/cut" --resume --quiet --lr 9e-9 >/dev/null 2>"$dir/err"; then fail "another lr was accepted"; fi
grep -q 'lr was' "$dir/err" || fail "the changed key is not named: $(cat "$dir/err")"
"$toque" tune -o "$dir/cut" --resume --quiet --threads 1 --max-memory 600M >/dev/null

for name in adapter_model.safetensors adapter_config.json checkpoint/state.safetensors recipe.yaml; do
    cmp "$dir/whole/$name" "$dir/cut/$name" || fail "$name differs"
done
for run in whole cut; do sed 's/, "tokens_per_second": [^}]*//' "$dir/$run/metrics.jsonl" >"$dir/$run.metrics"; done
cmp "$dir/whole.metrics" "$dir/cut.metrics" || fail "metrics.jsonl differs"
if "$toque" tune "$@" -o "$dir/whole" >/dev/null 2>"$dir/err"; then fail "a run was overwritten without --overwrite"; fi
echo "resume.sh: passed"
