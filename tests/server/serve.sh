#!/bin/sh
# toque serve on the real model (TOQUE_TEST_MODEL), driven with curl over 127.0.0.1.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
check "TOQUE_TEST_MODEL names the model" test -r "${TOQUE_TEST_MODEL:-}"
[ -r "${TOQUE_TEST_MODEL:-}" ] || finish
model=$TOQUE_TEST_MODEL
unset TOQUE_MODEL
TOQUE_HOME=$work/home
export TOQUE_HOME

# serve ARGUMENT...: starts a server at a free port; $pid and $url are its, its log is $work/log.
serve() {
    "$TOQUE" serve --port 0 --name smol "$@" >"$work/log" 2>&1 &
    pid=$!
    url=
    for _ in $(seq 100); do
        url=$(sed -n 's/^toque: listening at //p' "$work/log")
        [ -n "$url" ] && curl -sf -o /dev/null "$url/health" && return
        kill -0 "$pid" 2>/dev/null || return
        sleep 0.1
    done
}
# stop: SIGTERM; whether it ended with status 0 is in $fits.
stop() {
    kill -TERM "$pid"
    wait "$pid"
    expect 0 $?
}
trap 'kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT

# ask STATUS PATH [CURL_ARGUMENT...]: the answer is in $out.
ask() {
    wanted=$1 path=$2
    shift 2
    got=$(curl -s -o "$out" -w '%{http_code}' "$@" "$url$path")
    : >"$err"
    expect "$wanted" "$got"
}
chat() {
    wanted=$1 body=$2
    shift 2
    ask "$wanted" /v1/chat/completions -H 'Content-Type: application/json' --data-binary "$body" "$@"
}
json() { python3 -c "import json,sys; d=json.load(open(sys.argv[1])); sys.exit(0 if eval(sys.argv[2]) else 1)" "$out" "$1"; }
# The events of a stream, without the last one, as d; "[DONE]" must be that last one.
events() {
    python3 -c "
import json,sys
t=[e[6:] for e in open(sys.argv[1]).read().split('\n\n') if e]
d=[json.loads(e) for e in t[:-1]]
sys.exit(0 if t[-1]=='[DONE]' and eval(sys.argv[2]) else 1)" "$out" "$1"
}
said() { json "d['error']['param'] == $1 and $2 in d['error']['message']"; }

# --- the command
run 1 serve -m "$model" --host 0.0.0.0 --port 0
ok "a public address without a key is refused" one_error_line
run 1 serve -m "$model" --host example.org --port 0
ok "a host by name is refused" one_error_line
run 2 serve --port 0
ok "serve needs a model" one_error_line

serve -m "$model"
check "serve listens at 127.0.0.1" test -n "$url"
ask 200 /health
ok "health" json "d == {'status': 'ok'}"
ask 200 /v1/models
ok "models lists the base" json "[m['id'] for m in d['data']] == ['smol']"
ask 200 /v1/models/smol
ok "one model" json "d['max_model_len'] == 8192"
ask 404 /v1/models/none
ok "a model that is not there" said "'model'" "'none'"
ask 404 /nowhere
ok "an unknown path" json "d['error']['type'] == 'not_found_error'"
ask 405 /v1/chat/completions
ok "a wrong method" json "'POST' in d['error']['message']"

# --- chat completions
rivers='"messages":[{"role":"user","content":"Name three rivers."}],"temperature":0,"max_tokens":20'
"$TOQUE" generate -m "$model" -p 'Name three rivers.' -n 20 --json --quiet >"$work/alone"
chat 200 "{\"model\":\"smol\",$rivers}"
ok "chat says what generate says" json "d['choices'][0]['message']['content'] == json.load(open('$work/alone'))['text'] and d['choices'][0]['finish_reason'] == 'length' and d['usage']['completion_tokens'] == 20 and d['usage']['prompt_tokens'] == 34"
chat 200 "{\"stream\":true,\"stream_options\":{\"include_usage\":true},$rivers}"
ok "a stream has the same text, a role, an end and the usage" events "''.join(e['choices'][0]['delta'].get('content', '') for e in d if e['choices']) == json.load(open('$work/alone'))['text'] and d[0]['choices'][0]['delta']['role'] == 'assistant' and d[-2]['choices'][0]['finish_reason'] == 'length' and d[-1]['choices'] == [] and d[-1]['usage']['total_tokens'] == 54"
chat 200 '{"messages":[{"role":"user","content":[{"type":"text","text":"Name three "},{"type":"text","text":"rivers."}]}],"temperature":0,"max_tokens":20}'
ok "content in parts, from the prefix cache" json "d['choices'][0]['message']['content'] == json.load(open('$work/alone'))['text'] and d['usage']['prompt_tokens_details']['cached_tokens'] == 33"
chat 200 "{\"n\":2,\"seed\":5,\"messages\":[{\"role\":\"user\",\"content\":\"Tell me a story.\"}],\"max_tokens\":12}"
cp "$out" "$work/seeded"
ok "n gives different answers" json "[c['index'] for c in d['choices']] == [0, 1] and d['choices'][0]['message'] != d['choices'][1]['message']"
chat 200 "{\"n\":2,\"seed\":5,\"messages\":[{\"role\":\"user\",\"content\":\"Tell me a story.\"}],\"max_tokens\":12}"
ok "a seed gives them again" json "d['choices'] == json.load(open('$work/seeded'))['choices']"
chat 200 "{\"stop\":[\"Ancients\"],$rivers}"
ok "a stop string ends the answer before it" json "d['choices'][0]['message']['content'] == '1. The River of the ' and d['choices'][0]['finish_reason'] == 'stop'"
chat 200 "{\"logit_bias\":{\"33\":-100},$rivers}"
ok "logit_bias bans a token" json "d['choices'][0]['message']['content'][0] != '1'"
chat 200 "{\"logprobs\":true,\"top_logprobs\":3,$rivers}"
ok "logprobs" json "[len(t['top_logprobs']) for t in d['choices'][0]['logprobs']['content']] == [3] * 20 and all(t['logprob'] == t['top_logprobs'][0]['logprob'] for t in d['choices'][0]['logprobs']['content'])"

# --- bad requests
chat 400 '{"messages":'
ok "malformed JSON" json "d['error']['code'] == 'invalid_json'"
chat 400 '[]'
ok "no object" json "d['error']['code'] == 'invalid_json'"
chat 400 '{"temperature":0}'
ok "a missing field is named" said "'messages'" "'missing'"
chat 400 '{"messages":[{"role":"user","content":"x"}],"temperature":"hot"}'
ok "a wrong type is named" said "'temperature'" "'a number'"
chat 400 '{"messages":[{"role":"user","content":"x"}],"temprature":1}'
ok "an unknown field is named, and the one that is meant" said "'temprature'" "'temperature'"
chat 400 '{"messages":[{"role":"king","content":"x"}]}'
ok "an unknown role" said "'messages'" "'king'"
chat 400 '{"messages":[{"role":"user","content":"x"}],"max_tokens":9000}'
ok "a context overflow tells the counts" json "d['error']['code'] == 'context_length_exceeded' and d['error']['n_ctx'] == 8192 and d['error']['n_prompt_tokens'] == 31"
chat 404 '{"model":"other","messages":[{"role":"user","content":"x"}]}'
ok "an unknown model" said "'model'" "'other'"
stop
ok "SIGTERM ends it" test ! -s "$err"

# --- keys
printf '# keys\nplain-key-of-mine-1 anna\nsha256:%s bert\n' "$(printf %s another-key-of-mine | sha256sum | cut -d' ' -f1)" >"$work/keys"
serve -m "$model" --api-key-file "$work/keys"
ask 401 /v1/models
ok "no key" json "d['error']['type'] == 'authentication_error'"
ask 401 /v1/models -H 'Authorization: Bearer plain-key-of-mine-2'
ok "a wrong key" json "d['error']['code'] == 'invalid_api_key'"
ask 200 /v1/models -H 'Authorization: Bearer plain-key-of-mine-1'
ok "a key as Bearer" json "len(d['data']) == 1"
ask 200 /v1/models -H 'X-Api-Key: another-key-of-mine'
ok "a hashed key as X-Api-Key" json "len(d['data']) == 1"
ask 200 /health
ok "health needs no key" json "d['status'] == 'ok'"
stop
printf 'short\n' >"$work/short"
run 1 serve -m "$model" --port 0 --api-key-file "$work/short"
ok "a short key is refused with its line" err_has "line 1"
finish
