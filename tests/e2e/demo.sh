#!/bin/sh
# script/demo from data to the closing commands, on few rows: every part of it runs and says what it should.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
demo=$(dirname "$0")/../../script/demo

"$demo" "$work/demo" 48 25 12 >"$work/said" 2>"$work/remarks"
status=$?
[ $status -eq 0 ] || tail -n 5 "$work/said" "$work/remarks" | sed 's/^/# /'
check "the demo ends well" test $status -eq 0
check "its rows are as many as asked for" grep -q '^48 rows to learn from, 25 for validation, 12 words' "$work/said"
check "the ladder has its rungs" sh -c "grep -c '[0-9] %  *[0-9.]* to ' '$work/said' | grep -qx 8"
check "the claim is paired" grep -q '^LoRA against the best other rung' "$work/said"
check "it says what the hat costs elsewhere" grep -q 'of 10' "$work/said"
check "it closes with commands" grep -q 'toque predict -m .* -a .*/demo/hat' "$work/said"
finish
