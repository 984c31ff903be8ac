#!/bin/sh
# data validate, data inspect and predict: formats in and out, errors, and going on after kill -9. The model is the real one
# (TOQUE_TEST_MODEL).
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
cd "$work" || exit 1
json() { python3 -c "import json,sys; d=[json.loads(l) for l in open(sys.argv[1])]; sys.exit(0 if eval(sys.argv[2]) else 1)" "$out" "$1"; }

# --- validate needs no model
cat >good.jsonl <<'END'
{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"},{"role":"user","content":"2+2?"},{"role":"assistant","content":"4"}]}
END
cat >bad.jsonl <<'END'
{"prompt":"a","completion":"b"}
{"prompt":"a"}
{"text":"c"}
{bad
END
printf 'id;Frage;Antwort\r\n1;"Hallo; du";"gr\374n"\r\n2;"Zwei\nZeilen";sch\366n\r\n' >latin.csv
run 0 data validate good.jsonl
ok "validate accepts good rows" out_is "good.jsonl: JSON lines, UTF-8, messages rows, 1 row"
run 1 data validate good.jsonl bad.jsonl
ok "validate names a missing field's line" out_has 'bad.jsonl: line 2: field "completion" is missing; there is: prompt'
ok "validate names a change of form" out_has 'bad.jsonl: line 3: a row of the form "text", but the file began with "prompt" rows on line 1'
ok "validate names line and column" out_has 'bad.jsonl: line 4, column'
ok "validate counts" err_is 'toque: error: 3 errors: mend or remove these rows'
run 1 data validate --json bad.jsonl
ok "validate --json" json "not d[0]['ok'] and len(d[0]['errors']) == 3 and d[0]['rows'] == 1"
run 0 data validate latin.csv --prompt-column Frage --answer-column Antwort
ok "validate tells delimiter and encoding" out_has 'CSV, semicolon, windows-1252, column rows, 2 rows'
run 1 data validate latin.csv --prompt-column Fragen --answer-column Antwort
ok "a missing column: those there are" out_has 'there is no column "Fragen"; the 3 columns (semicolon) are: id, Frage, Antwort'
run 1 data validate latin.csv
ok "a table needs its columns named" out_has '--prompt-column'
run 1 data validate none.jsonl
ok "a missing file is an error" out_has 'none.jsonl'
run 2 data validate
ok "no file is wrong usage" one_error_line
i=0
while [ $i -lt 30 ]; do echo '{"text":1}' && i=$((i + 1)); done >many.jsonl
run 1 data validate many.jsonl
ok "validate stops after 20 errors" sh -c "[ \$(grep -c 'must be a string' '$out') -eq 20 ]"

check "TOQUE_TEST_MODEL names the model" test -r "${TOQUE_TEST_MODEL:-}"
[ -r "${TOQUE_TEST_MODEL:-}" ] || finish
model=$TOQUE_TEST_MODEL

# --- inspect
run 0 data inspect -m "$model" good.jsonl
ok "inspect brackets what is learned" sh -c "[ \$(grep -c -F -e '[[yo<|im_end|>]]' -e '[[4<|im_end|>]]' '$out') -eq 2 ]"
ok "inspect shows the template" out_has '<|im_start|>user'
run 0 data inspect -m "$model" good.jsonl --train-on last --json
ok "inspect --json" json "d[0]['examples'] == 1 and d[0]['target_tokens'] == 2 and [p['text'] for p in d[0]['shown'][0]['parts'] if p['learned']] == ['4<|im_end|>']"
run 0 data inspect -m "$model" latin.csv --prompt-column Frage --answer-column Antwort --max-length 5
ok "inspect converts encodings" out_has '[[grün<|im_end|>]]'
ok "inspect counts long rows" out_has '2 longer than 5 tokens'

# --- predict
run 0 predict -m "$model" latin.csv --prompt-column Frage -n 2 --quiet
ok "a table keeps its columns, delimiter and line ends" sh -c "head -1 '$out' | grep -q '^id;Frage;Antwort;answer;probability.\$' && grep -q '^1;\"Hallo; du\";\"grün\";' '$out'"
printf 'q,answer\nWhat is the capital of France?,x\n' >q.csv
run 0 predict -m "$model" q.csv --prompt-column q -n 12
ok "existing names are kept" err_has 'answer_2 and probability_2'
"$TOQUE" generate -m "$model" -p 'What is the capital of France?' -n 12 --quiet >alone
run 0 predict -m "$model" q.csv --prompt-column q -n 12 --quiet
ok "a row's answer is generate's" sh -c "grep -qF \"\$(cat alone)\" '$out'"
printf '{"prompt":"Is fire hot?", "x": 1.10}\n{"x":2,"prompt":"Is ice hot?"}\n' >l.jsonl
run 0 predict -m "$model" l.jsonl --labels yes,no --quiet
ok "labels are chosen from" json "all(r['answer'] in ('yes', 'no') and 0.5 <= r['probability'] <= 1 for r in d)"
ok "a row's own bytes stay" out_has '{"prompt":"Is fire hot?", "x": 1.10, "answer": '
run 1 predict -m "$model" l.jsonl --labels yes
ok "one label is an error" one_error_line
run 1 predict -m "$model" bad.jsonl
ok "a broken row is found before anything is computed" one_error_line

i=0
while [ $i -lt 40 ]; do echo "{\"prompt\":\"What is $i and 1?\"}" && i=$((i + 1)); done >p.jsonl
run 0 predict -m "$model" p.jsonl -n 6 --quiet
ok "predict answers every row" sh -c "[ \$(wc -l <'$out') -eq 40 ]"
cp "$out" whole
"$TOQUE" predict -m "$model" p.jsonl -n 6 --quiet -o cut &
child=$!
i=0
while [ $i -lt 1000 ] && ! [ -s cut.partial ]; do sleep 0.05 && i=$((i + 1)); done
kill -9 $child 2>/dev/null
wait $child 2>/dev/null
check "it was killed half way" sh -c "! [ -e cut ] && [ \$(wc -l <cut.partial) -lt 40 ]"
printf '{"prompt":"What' >>cut.partial
run 1 predict -m "$model" p.jsonl -n 7 -o cut
ok "other options do not go on with it" err_has '--no-resume starts over'
run 0 predict -m "$model" p.jsonl -n 6 -o cut
ok "the same command goes on" err_has 'rows were answered before and are kept'
check "the bytes are those of a run never stopped" cmp -s whole cut
check "nothing is left over" sh -c '! [ -e cut.partial ] && ! [ -e cut.partial.key ]'
run 1 predict -m "$model" p.jsonl -n 6 -o cut
ok "an existing file is refused" err_has '--overwrite replaces it'
finish
