#!/bin/sh
# The program on a disk that fills up or fails: toque built with failing input and output (tests/faults/faulty.h) tunes,
# predicts and evaluates a small random model. It ends with one error line, leaves no half file under a final name, and
# the ordinary program goes on to the bytes of a run in which nothing failed.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
built=$(dirname "$TOQUE")/tests/faults
faulty=$built/toque_faulty
cd "$work" || exit 1
check "the small model is written" "$built/write_small_model" m.gguf
i=0
while [ $i -lt 12 ]; do
    printf '{"messages":[{"role":"user","content":"%d?"},{"role":"assistant","content":"%s"}]}\n' $i "$([ $((i % 3)) = 0 ] && echo a || echo b)"
    i=$((i + 1))
done >rows.jsonl

# fail MODE N ARGUMENT...: as run 1, with the Nth call failing.
fail() {
    mode=$1 at=$2
    shift 2
    TOQUE_FAULT="$mode $at" "$faulty" "$@" >"$out" 2>"$err"
    expect 1 $?
}
# calls MODE ARGUMENT...: prints how many calls MODE could fail in a run that passes.
calls() {
    mode=$1
    shift
    TOQUE_FAULT="$mode 999999" TOQUE_FAULT_COUNT=$work/.calls "$faulty" "$@" >"$out" 2>"$err" && cat .calls
}
no_temporaries() { [ -z "$(find . -name '*.tmp-*')" ]; }
same_run() {
    for made in adapter_model.safetensors adapter_config.json checkpoint/state.safetensors; do
        cmp "whole/$made" "cut/$made" || return 1
    done
    for dir in whole cut; do sed 's/, "tokens_per_second": [^}]*//' $dir/metrics.jsonl >$dir.metrics; done
    cmp whole.metrics cut.metrics
}

set -- -m m.gguf -d rows.jsonl --batch-size 2 --epochs 1 --save-every 2 --eval-split 0.2 --rank 2 --dropout 0.1 \
    --compute f32 --quiet --threads 1
run 0 tune "$@" -o whole
ok "tune trains the small model" test -s whole/checkpoint/state.safetensors
n=$(calls full tune "$@" -o counted)
check "a run makes calls that a full disk fails" test "$n" -gt 20
for at in 1 $((n / 3)) $((n / 2)) $((n * 3 / 4)) $((n - 6)); do
    rm -rf cut
    fail full "$at" tune "$@" -o cut
    ok "tune on a disk that is full from call $at on: one error" one_error_line
    check "no temporary file stays ($at)" no_temporaries
    # Without a recipe nothing was begun yet: the folder may be used as a new one.
    if [ -f cut/recipe.yaml ]; then run 0 tune -o cut --resume --quiet --threads 1; else run 0 tune "$@" -o cut; fi
    ok "it goes on to the same bytes ($at)" same_run
done

set -- -m m.gguf --compute f32 --quiet --threads 1 rows.jsonl
run 0 predict "$@" -n 4 -o whole.jsonl
ok "predict answers" test "$(wc -l <whole.jsonl)" = 12
n=$(calls full predict "$@" -n 4 -o counted.jsonl)
for at in 1 $((n / 2)) $((n - 1)); do # the last call is a sync behind the rename
    fail full "$at" predict "$@" -n 4 -o cut.jsonl
    ok "predict on a full disk ($at): one error" one_error_line
    check "no half file has the final name ($at)" test ! -e cut.jsonl
    run 0 predict "$@" -n 4 -o cut.jsonl
    ok "it goes on to the same bytes ($at)" cmp -s whole.jsonl cut.jsonl
    rm -f cut.jsonl
done

run 0 eval "$@" --labels a,b -o base.jsonl
cp base.jsonl kept.jsonl
n=$(calls full eval "$@" --labels a,b -o counted.jsonl)
for at in 1 $((n - 1)); do
    fail full "$at" eval "$@" --labels a,b -o base.jsonl
    ok "eval on a full disk ($at): one error" one_error_line
    check "the file of an earlier run is intact ($at)" cmp -s base.jsonl kept.jsonl
done

fail error 1 score "$@"
ok "a file that cannot be read: one error" one_error_line
check "no temporary file is left" no_temporaries
finish
