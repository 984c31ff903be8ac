#!/bin/sh
# embed and Hugging Face folders on the real embedding model (TOQUE_TEST_EMBEDDER).
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
check "TOQUE_TEST_EMBEDDER names the folder" test -r "${TOQUE_TEST_EMBEDDER:-}/config.json"
[ -r "${TOQUE_TEST_EMBEDDER:-}/config.json" ] || finish
model=$TOQUE_TEST_EMBEDDER
unset TOQUE_MODEL
TOQUE_HOME=$work/home
export TOQUE_HOME
json() { python3 -c "import json,sys; d=[json.loads(l) for l in open(sys.argv[1])]; sys.exit(0 if eval(sys.argv[2]) else 1)" "$out" "$1"; }

printf 'Hello world\r\nHow do I get my money back?' >"$work/two"
run 0 embed -m "$model" --compute f32 "$work/two"
ok "a line in, an array out" json "[len(v) for v in d] == [384, 384]"
ok "the values of sentence-transformers" json "abs(d[0][0] + 0.0344772) < 1e-6 and abs(d[1][2] + 0.0146701) < 1e-6"
cp "$out" "$work/first"
run 0 embed -m "$model" --compute f32 <"$work/two"
ok "standard input gives the same bytes" cmp "$out" "$work/first"
printf 'a\n\nb\n' >"$work/gap"
run 1 embed -m "$model" "$work/gap"
ok "an empty line is an error with its number" sh -c "grep -q 'line 2' '$err'"
: >"$work/empty"
run 1 embed -m "$model" "$work/empty"
ok "no line at all is an error" one_error_line
python3 -c "print('x'); print('word ' * 300)" >"$work/long"
run 1 embed -m "$model" "$work/long"
ok "a line that is too long is refused with the counts" sh -c "grep -q 'line 2.*302 tokens.*256' '$err'"
run 0 embed -m "$model" --truncate "$work/long"
ok "--truncate cuts and counts" sh -c "grep -q '1 of 2 lines were cut to 256 tokens' '$err'"
run 0 tokenize -m "$model" --ids --add-special "$work/two"
ok "tokenize reads a folder" out_is "101 7592 2088 2129 2079 1045 2131 2026 2769 2067 1029 102"
run 0 models show "$model" --json
ok "models show reads a folder" json "d[0]['architecture'] == 'bert' and d[0]['parameters'] == 22713216"
mkdir -p "$work/home/models/mini" && cp -r "$model" "$work/home/models/mini/model"
run 0 embed -m mini --compute f32 "$work/two"
ok "a folder in the store has a name" cmp "$out" "$work/first"
run 0 models list
ok "models list shows it" grep -q mini "$out"
run 0 models rm mini
ok "models rm removes it" test ! -e "$work/home/models/mini"
run 1 generate -m "$model" --raw -p hi
ok "an encoder does not generate" sh -c "grep -q encoder '$err'"
run 1 tokenize -m "$work" "$work/two"
ok "a folder without a model is an error" one_error_line
finish
