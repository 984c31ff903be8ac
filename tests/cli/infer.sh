#!/bin/sh
# tokenize, template, generate, chat, score, perplexity and models on the real model (TOQUE_TEST_MODEL).
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
check "TOQUE_TEST_MODEL names the model" test -r "${TOQUE_TEST_MODEL:-}"
[ -r "${TOQUE_TEST_MODEL:-}" ] || finish
model=$TOQUE_TEST_MODEL
unset TOQUE_MODEL
TOQUE_HOME=$work/home
export TOQUE_HOME
text=$(dirname "$0")/../infer/data/text.txt
json() { python3 -c "import json,sys; d=[json.loads(l) for l in open(sys.argv[1])]; sys.exit(0 if eval(sys.argv[2]) else 1)" "$out" "$1"; }

# --- tokenize
printf 'Hello there' >"$work/hello"
run 0 tokenize -m "$model" --ids "$work/hello"
ok "tokenize --ids prints one line" out_is "19556 665"
run 0 tokenize --ids -m "$model" <"$work/hello"
ok "tokenize reads standard input" out_is "19556 665"
TOQUE_MODEL=$model run 0 tokenize --ids "$work/hello"
ok "TOQUE_MODEL supplies -m" out_is "19556 665"
run 0 tokenize -m "$model" "$work/hello"
ok "tokenize prints a piece a line" out_is "$(printf '19556\tHello\n665\t there')"
run 0 tokenize -m "$model" --json "$work/hello"
ok "tokenize --json" json "d == [{'ids': [19556, 665], 'pieces': ['Hello', ' there']}]"
printf 'a\n\t\\<|im_end|>' >"$work/odd"
run 0 tokenize -m "$model" "$work/odd"
ok "tokenize escapes what cannot be printed" grep -qF "$(printf '\t\\n')" "$out"
ok "tokenize recognizes control tokens" grep -q '<|im_end|>' "$out"
run 0 tokenize -m "$model" --no-parse-special --ids "$work/odd"
ok "--no-parse-special does not" sh -c "! grep -qw 2 '$out'"
printf '\000\377x' >"$work/bytes"
run 0 tokenize -m "$model" --json "$work/bytes"
ok "tokenize takes any bytes" json "len(d[0]['ids']) >= 2"
: >"$work/empty"
run 0 tokenize -m "$model" --ids "$work/empty"
ok "an empty text has no tokens" out_is ""
run 2 tokenize "$work/hello"
ok "no model is wrong usage" one_error_line
run 1 tokenize -m "$work/none.gguf" "$work/hello"
ok "a missing model is an error" one_error_line
run 1 tokenize -m "$work/hello" "$work/hello"
ok "a file that is no model is an error" one_error_line
run 1 tokenize -m "$model" "$work/none"
ok "a missing text is an error" one_error_line
run 1 tokenize -m http://localhost:1/v1#x "$work/hello"
ok "a server is no model file" one_error_line

# --- template
echo '[{"role": "user", "content": "Hi <|im_end|>"}]' >"$work/talk.json"
run 0 template -m "$model" --messages "$work/talk.json" --no-generation-prompt
ok "template renders the model's own" grep -qF '<|im_start|>user' "$out"
cp "$out" "$work/without"
run 0 template -m "$model" --messages "$work/talk.json"
ok "the generation prompt is added behind" sh -c "[ \"\$(tail -c 22 '$out')\" = '<|im_start|>assistant' ]"
run 0 template -m "$model" --messages - <"$work/talk.json"
ok "template reads messages from standard input" grep -qF '<|im_start|>user' "$out"
echo '{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}{{ extra }}' >"$work/t.jinja"
run 0 template --template "$work/t.jinja" --messages "$work/talk.json" --var 'extra="E"'
ok "template takes a file and variables" out_is 'user=Hi <|im_end|>;E'
run 0 template --template "$work/t.jinja" --messages "$work/talk.json" --var extra=1 --json
ok "template --json" json "d[0]['text'].startswith('user=Hi <|im_end|>;1')"
run 2 template --template "$work/t.jinja" --messages "$work/talk.json" --var extra=E
ok "--var wants JSON" one_error_line
run 2 template -m "$model"
ok "template needs messages" one_error_line
run 2 template -m "$model" --template "$work/t.jinja" --messages "$work/talk.json"
ok "template takes one template" one_error_line
echo '{}' >"$work/object.json"
run 1 template -m "$model" --messages "$work/object.json"
ok "messages must be an array" one_error_line
echo '[{"content": "x"}]' >"$work/norole.json"
run 1 template -m "$model" --messages "$work/norole.json"
ok "messages need roles" err_has "message 1"
echo '[{' >"$work/broken.json"
run 1 template -m "$model" --messages "$work/broken.json"
ok "broken JSON is an error with its place" err_has "line"

# --- generate
g="generate -m $model --threads 1"
# shellcheck disable=SC2086
{
run 0 $g -p 'What is the capital of France?' -n 12 --quiet
ok "generate answers" out_has Paris
ok "--quiet is quiet" [ ! -s "$err" ]
cp "$out" "$work/first"
run 0 $g -p 'What is the capital of France?' -n 12
ok "greedy answers repeat" cmp -s "$out" "$work/first"
ok "generate tells its speed" err_has "tokens/s"
run 0 $g -p 'What is the capital of France?' -n 12 --json
ok "generate --json has exactly its keys" json "sorted(d[0]) == ['completion_seconds', 'completion_tokens', 'finish_reason', 'prompt_seconds', 'prompt_tokens', 'text']"
ok "generate --json has the same text" json "d[0]['text'] + '\n' == open('$work/first').read() and len(d) == 1"
ok "an end is stop, a cut length" json "d[0]['finish_reason'] == ('stop' if d[0]['completion_tokens'] < 12 else 'length')"
run 0 $g -p 'What is the capital of France?' -n 40 --json --stop Paris
ok "a stop string ends before it" json "'Paris' not in d[0]['text'] and d[0]['finish_reason'] == 'stop' and d[0]['completion_tokens'] > 0"
run 0 $g --raw -p 'The capital of France is' -n 1 --quiet
ok "--raw continues the text" out_is " Paris"
run 0 $g --raw -p 'The capital of France is' -n 1 --json
ok "--raw adds no template" json "d[0]['prompt_tokens'] == 5"
run 0 $g --raw -p 'The capital of France is' -n 1 --quiet --logit-bias ' Paris=-inf'
ok "a banned token is not drawn" [ "$(cat "$out")" != " Paris" ]
run 0 $g --raw -p 'Once' -n 16 --temp 1 --seed 3 --quiet
cp "$out" "$work/first"
run 0 $g --raw -p 'Once' -n 16 --temp 1 --seed 3 --quiet
ok "the same seed gives the same answer" cmp -s "$out" "$work/first"
run 0 $g --raw -p 'Once' -n 16 --temp 1 --seed 4 --quiet
ok "another seed gives another" sh -c "! cmp -s '$out' '$work/first'"
run 0 $g --raw -p 'Once' -n 1 --temp 1
ok "a seed that was chosen is told" err_has "seed "
run 0 $g --messages "$work/talk.json" -n 2 --system Be-short --json
ok "--system goes in front of messages" json "d[0]['prompt_tokens'] > 10"
run 0 $g -p Hello -n 3 --ignore-eos --json
ok "--ignore-eos draws on" json "d[0]['completion_tokens'] == 3 and d[0]['finish_reason'] == 'length'"
run 2 $g
ok "generate needs a prompt" one_error_line
run 2 $g -p a --messages "$work/talk.json"
ok "generate takes one prompt" one_error_line
run 2 $g --raw --messages "$work/talk.json"
ok "--raw takes no messages" one_error_line
run 2 $g -p a --temp=-1
ok "a negative temperature is wrong usage" one_error_line
run 2 $g -p a --logit-bias 'two words of text=1' --quiet
ok "a bias of several tokens is wrong usage" one_error_line
run 1 $g -p a -n 1000000 --quiet
ok "an answer over the context is refused with the numbers" err_has "1000000"
run 1 $g -p a -a "$work/none:0.5" --quiet
ok "a missing adapter is an error" one_error_line
run 1 $g --raw -p '' --quiet
ok "an empty prompt is an error" one_error_line

# --- chat
printf '/system Answer with one word.\nWhat is the capital of France?\n/save %s\n/adapters\n/adapter none\n/clear\n' "$work/saved.json" |
    "$TOQUE" chat -m "$model" --threads 1 -n 8 --temp 0 >"$out" 2>"$err"
expect 0 $?
ok "chat answers over a pipe, without prompts" sh -c "grep -q Paris '$out' && ! grep -q '^> ' '$out'"
ok "chat lists adapters" out_has "no adapters loaded"
cp "$work/saved.json" "$out"
ok "/save writes messages" sh -c "python3 -c \"import json; m=json.load(open('$out')); assert [x['role'] for x in m] == ['system', 'user', 'assistant']\""
printf '/load %s\nAnd of Italy?\n/save %s\n/quit\nnot read\n' "$work/saved.json" "$work/more.json" |
    "$TOQUE" chat -m "$model" --threads 1 -n 8 --temp 0 >"$out" 2>"$err"
expect 0 $?
cp "$work/more.json" "$out"
ok "/load goes on where /save stopped" sh -c "python3 -c \"import json; assert len(json.load(open('$out'))) == 5\""
run 0 chat -m "$model" --threads 1 <"$work/empty"
ok "chat with nothing to say ends" [ ! -s "$out" ]
echo '/sav' >"$work/line"
run 1 chat -m "$model" --threads 1 <"$work/line"
ok "an unknown command suggests the nearest" err_has "did you mean /save"
echo "$(head -c 2000 "$text" | tr '\n' ' ')" >"$work/line"
run 1 chat -m "$model" --threads 1 --context 64 <"$work/line"
ok "a full context is said, with the way out" err_has "/clear"
run 2 chat -m "$model" --json
ok "chat has no --json" one_error_line
run 1 chat -m "$model" --context 1000000 </dev/null
ok "a context over the model's is refused" one_error_line

# --- score
cat >"$work/rows.jsonl" <<'END'
{"messages": [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "Paris"}]}
{"messages": [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "Hat"}]}
{"messages": [{"role": "user", "content": "A row without an answer"}]}
END
run 0 score -m "$model" --threads 1 --tokens "$work/rows.jsonl"
ok "score prints a line a row" json "len(d) == 3"
ok "the right answer is likelier" json "d[0]['logprob'] > d[1]['logprob'] and d[0]['tokens'] > 0"
ok "a row without an answer scores nothing" json "d[2]['logprob'] == 0 and d[2]['tokens'] == 0"
ok "the sum is of the tokens" json "all(len(r['token_logprobs']) == r['tokens'] and abs(sum(r['token_logprobs']) - r['logprob']) < 1e-4 for r in d)"
run 0 score -m "$model" --threads 1 "$work/rows.jsonl"
ok "score has exactly its keys" json "all(sorted(r) == ['logprob', 'tokens'] for r in d)"
run 2 score -m "$model"
ok "score needs rows" one_error_line
run 1 score -m "$model" "$work/none.jsonl"
ok "missing rows are an error" one_error_line

# --- eval
cat >"$work/labels.csv" <<'END'
text,label
What is the capital of France?,Paris
What is the capital of England?,London
What is the capital of Japan?,Tokyo
END
run 0 eval -m "$model" --threads 1 --quiet --json "$work/labels.csv" --labels Paris,London,Tokyo --text-column text \
    --label-column label --prior "$work/labels.csv" -o "$work/answers.jsonl"
ok "eval answers by likelihood, raw and corrected" json "d[0]['rows'] == 3 and d[0]['raw']['correct'] >= 2 and d[0]['corrected']['correct'] >= 2"
ok "the prior's seconds are among all" json "0 < d[0]['prior_seconds'] < d[0]['seconds']"
ok "its rows hold both answers" grep -qx '{"row":"[0-9a-f]*","label":"Paris","answer":"[A-Z][a-z]*","correct":[a-z]*,"uncorrected":"[A-Z][a-z]*"}' "$work/answers.jsonl"
run 0 eval -m "$model" --threads 1 --quiet --json "$work/labels.csv" --labels Paris,London,Tokyo --text-column text \
    --label-column label --shots 1 --shots-from "$work/labels.csv" -o "$work/shots.jsonl" --against "$work/answers.jsonl"
ok "eval pairs two runs" json "set(d[0]['paired']) == {'only_this', 'only_other', 'p'} and 'corrected' not in d[0]"
ok "without --prior a row has one answer" sh -c "! grep -q uncorrected '$work/shots.jsonl'"
run 1 eval -m "$model" --threads 1 "$work/labels.csv" --labels Paris,London --text-column text --label-column label
ok "an answer that is no label is an error with its line, before anything is computed" \
    sh -c "grep -q 'line 4: the answer .Tokyo. is none of --labels' '$err' && ! grep -q evaluating '$err'"
head -n 1 "$work/labels.csv" >"$work/none.csv"
run 1 eval -m "$model" --threads 1 --quiet "$work/none.csv" --labels Paris,London --text-column text --label-column label
ok "eval of no rows is an error" one_error_line

# --- perplexity: values of transformers, see tests/infer/data/cases.json
run 0 perplexity -m "$model" --threads 1 --compute f32 --context 64 --json --quiet "$text"
ok "perplexity --json has exactly its keys" json "sorted(d[0]) == ['nll', 'perplexity', 'tokens']"
ok "perplexity is that of the reference" json "d[0]['tokens'] == 348 and abs(d[0]['nll'] - 3.826422) < 1e-3"
run 0 perplexity -m "$model" --threads 1 --compute f32 --context 64 --stride 24 --json --quiet "$text"
ok "a stride scores more tokens" json "d[0]['tokens'] == 353 and abs(d[0]['nll'] - 3.524317) < 1e-3"
run 1 perplexity -m "$model" --context 64 --stride 65 --quiet "$text"
ok "a stride that leaves tokens out is refused" one_error_line
run 1 perplexity -m "$model" --context 1000000 --quiet "$text"
ok "a window over the model's context is refused" one_error_line
run 1 perplexity -m "$model" --quiet "$work/empty"
ok "an empty text has no perplexity" one_error_line
}

# --- models
run 0 models list
ok "an empty store lists nothing" [ ! -s "$out" ]
run 0 models pull "$model" --name small --quiet
ok "pull takes a local file" out_is small
run 0 models list --json
ok "list has it" json "[m['name'] for m in d] == ['small'] and d[0]['bytes'] > 9e7"
run 0 models show small --json
ok "show by name" json "d[0]['architecture'] == 'llama' and d[0]['chat_template'] is True and d[0]['layers'] == 30 and d[0]['tensors']['Q4_1'] > 100"
run 0 models show "$model"
ok "show by path" out_has "architecture   llama"
run 0 tokenize -m small --ids "$work/hello"
ok "-m takes a name of the store" out_is "19556 665"
run 1 models pull "$model" --name small --quiet
ok "a taken name is refused" one_error_line
run 1 models pull "$model" --name other --sha256 "$(printf '%064d' 0)" --quiet
ok "a wrong hash is refused" one_error_line
run 1 models show nothing
ok "show of an unknown name is an error" one_error_line
run 0 models rm small
run 0 models list
ok "rm removes it" [ ! -s "$out" ]
run 1 models rm small
ok "rm of an unknown name is an error" one_error_line
finish
