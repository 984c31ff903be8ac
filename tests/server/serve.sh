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
chat 200 "{\"stop\":[\"River\"],$rivers}"
ok "a stop string ends the answer before it" json "d['choices'][0]['message']['content'] == json.load(open('$work/alone'))['text'].split('River')[0] and d['choices'][0]['finish_reason'] == 'stop'"
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

# --- completions
post() {
    wanted=$1 path=$2 body=$3
    shift 3
    ask "$wanted" "$path" --data-binary "$body" "$@"
}
post 200 /v1/completions '{"prompt":"The capital of France is","max_tokens":1,"echo":true,"logprobs":1,"temperature":0}'
ok "echo gives the prompt's log-probabilities and one token more" json "
[(c['text'], c['logprobs']['tokens'], c['logprobs']['text_offset'], c['logprobs']['token_logprobs'][0], len(c['logprobs']['top_logprobs'])) for c in d['choices']] == [('The capital of France is Paris', ['The', ' capital', ' of', ' France', ' is', ' Paris'], [0, 3, 11, 14, 21, 24], None, 6)]"
ok "the drawn token is the greatest, as a float" json "d['choices'][0]['logprobs']['token_logprobs'][-1] == max(d['choices'][0]['logprobs']['top_logprobs'][-1].values()) and abs(d['choices'][0]['logprobs']['token_logprobs'][-1] + 0.262) < 0.02"
cp "$out" "$work/echo"
post 200 /v1/completions '{"prompt":[[504,3575,282,4649,314],[19556,665]],"max_tokens":1,"echo":true,"logprobs":1,"temperature":0}'
ok "prompts as tokens, the first with the same numbers" json "[c['index'] for c in d['choices']] == [0, 1] and d['choices'][0]['logprobs'] == json.load(open('$work/echo'))['choices'][0]['logprobs']"
post 400 /v1/completions '{"prompt":[1,70000]}'
ok "a token beyond the vocabulary" said "'prompt'" "'prompt[1]'"
post 400 /v1/completions '{"prompt":"x","best_of":3}'
ok "best_of is refused by name" said "'best_of'" "'not supported'"

# --- tokens, messages, page, metrics
post 200 /tokenize '{"prompt":"Hello there","add_special_tokens":false}'
ok "tokenize" json "d['tokens'] == [19556, 665]"
post 200 /tokenize '{"content":"Hello there","with_pieces":true}'
ok "tokenize with pieces" json "d['tokens'] == [{'id': 19556, 'piece': 'Hello'}, {'id': 665, 'piece': ' there'}]"
post 404 /tokenize '{"content":"Hello there","model":"nobody"}'
ok "a model that is not here has no vocabulary" json "d['error']['param'] == 'model'"
# smuggle: one request that two readers would cut in different places, and another behind it; the status lines of the replies
smuggle() {
    python3 -c "
import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1].rsplit(':', 1)[1])))
s.sendall(b'POST /tokenize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
          b'GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')
s.settimeout(10)
reply = b''
while True:
    piece = s.recv(65536)
    if not piece: break
    reply += piece
print([l for l in reply.decode().split('\r\n') if l.startswith('HTTP/')])" "$url"
}
check "a request of two lengths is refused, and nothing behind it is read" test "$(smuggle)" = "['HTTP/1.1 400 Bad Request']"
post 200 /detokenize '{"tokens":[19556,665]}'
ok "detokenize" json "d == {'content': 'Hello there', 'prompt': 'Hello there'}"
post 200 /apply-template '{"messages":[{"role":"user","content":"Hi"}]}'
ok "apply-template" json "d['prompt'].endswith('<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n')"
ask 200 /tokenizer_info
ok "tokenizer_info" json "d['eos_token'] == '<|im_end|>' and 'messages' in d['chat_template']"
post 200 /v1/messages '{"max_tokens":12,"temperature":0,"messages":[{"role":"user","content":"Hi"}],"stop_sequences":["!"]}'
ok "messages" json "d['content'] == [{'type': 'text', 'text': 'Hello'}] and d['stop_reason'] == 'stop_sequence' and d['stop_sequence'] == '!'"
post 400 /v1/messages '{"messages":[{"role":"user","content":"Hi"}]}'
ok "messages needs max_tokens" said "'max_tokens'" "'missing'"
ask 200 /metrics
ok "metrics" out_has 'toque_answers_total{end="length"}'
ask 200 / -D "$work/head"
ok "the page is part of the program" out_has "<title>toque</title>"
check "the page loads nothing from elsewhere" grep -q "^Content-Security-Policy: default-src 'self'" "$work/head"
post 501 /v1/embeddings '{"input":"x"}'
ok "no embedder" json "d['error']['code'] == 'no_embedder'"

# --- foreign pages
ask 403 /v1/models -H 'Origin: https://evil.example'
ok "a foreign page is refused" json "d['error']['code'] == 'origin_not_allowed'"
ask 403 /v1/models -H 'Host: evil.example'
ok "a name that points here is refused" json "d['error']['code'] == 'wrong_host'"

# --- clients that go away
long='"messages":[{"role":"user","content":"Write a long story."}],"ignore_eos":true,"max_tokens":4000'
idle() {
    for _ in $(seq 100); do
        ask 200 /metrics
        grep -q '^toque_requests_running 0$' "$out" && grep -q '^toque_requests_waiting 0$' "$out" && return
        sleep 0.1
    done
    return 1
}
curl -s -m 1 -o "$work/none" "$url/v1/chat/completions" --data-binary "{$long}"
check "a client that hangs up while it waits ends the answer" idle
curl -sN -m 1 -o "$work/none" "$url/v1/chat/completions" --data-binary "{\"stream\":true,$long}"
check "and in a stream" idle
python3 -c "print('{\"max_tokens\":1,\"prompt\":\"' + 'many words in a row ' * 1500 + '\"}')" >"$work/long"
curl -s -m 0.3 -o "$work/none" "$url/v1/completions" --data-binary "@$work/long"
check "and while its prompt is read" idle
ask 200 /metrics
ok "they count as canceled" grep -qE '^toque_answers_total\{end="canceled"\} [1-9]' "$out"

# --- in company
one='"messages":[{"role":"user","content":"Tell me a story."}],"max_tokens":24,"seed":11'
chat 200 "{$one}"
cp "$out" "$work/one"
for i in 1 2 3 4; do
    curl -s -o "$work/with$i" "$url/v1/chat/completions" --data-binary "{\"messages\":[{\"role\":\"user\",\"content\":\"Say $i.\"}],\"max_tokens\":40}" &
    eval "c$i=\$!"
done
chat 200 "{$one}"
# shellcheck disable=SC2154
wait "$c1" "$c2" "$c3" "$c4"
ok "a seeded answer is the same in company" json "d['choices'] == json.load(open('$work/one'))['choices']"
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

# --- limits
serve -m "$model" --slots 1 --queue 1 --timeout 2 --context 512 --max-body 2k --audit "$work/audit" --cors https://page.example
chat 400 '{"messages":[{"role":"user","content":"x"}],"max_tokens":600}'
ok "--context bounds prompt and answer" json "d['error']['n_ctx'] == 512"
chat 429 '{"messages":[{"role":"user","content":"x"}],"n":3,"max_tokens":4}' -D "$work/head"
ok "more than slots and queue hold is refused" json "d['error']['type'] == 'rate_limit_error'"
check "with Retry-After" grep -qi '^Retry-After: 1' "$work/head"
python3 -c "print('{\"prompt\":\"' + 'x' * 3000 + '\"}')" >"$work/big"
post 413 /v1/completions "@$work/big"
ok "a large body is refused" json "d['error']['code'] == 'body_too_large'"
post 200 /v1/completions '{"prompt":"x","max_tokens":1,"user":"u-17"}' -H 'Origin: https://page.example' -D "$work/head"
ok "a listed page may ask" grep -qi '^Access-Control-Allow-Origin: https://page.example' "$work/head"
ask 204 /v1/completions -X OPTIONS -H 'Origin: https://page.example' -D "$work/head"
ok "and is told so beforehand" grep -qi '^Access-Control-Allow-Headers: Authorization' "$work/head"
post 400 /v1/load_lora_adapter '{"lora_name":"x"}'
ok "a load without a path" said "'lora_path'" "'missing'"
post 403 /v1/load_lora_adapter '{"lora_name":"x","lora_path":"/etc/passwd"}'
ok "no adapters without --adapter-dir" json "d['error']['code'] == 'path_not_allowed'"
stop
ok "it ends" true
check "the audit log has the requests and no texts" python3 -c "
import json
rows = [json.loads(l) for l in open('$work/audit')]
assert any(r['user'] == 'u-17' and r['status'] == 200 and r['path'] == '/v1/completions' for r in rows)
assert any(r['status'] == 429 for r in rows) and 'content' not in open('$work/audit').read()"

# --- TLS
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/secret.pem" -out "$work/cert.pem" -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 2>/dev/null
"$TOQUE" serve -m "$model" --port 0 --name smol --tls-cert "$work/cert.pem" --tls-key "$work/secret.pem" >"$work/log" 2>&1 &
pid=$!
for _ in $(seq 50); do
    url=$(sed -n 's/^toque: listening at http/https/p' "$work/log")
    [ -n "$url" ] && curl -sf --cacert "$work/cert.pem" -o /dev/null "$url/health" && break
    sleep 0.1
done
chat 200 "{$rivers}" --cacert "$work/cert.pem"
ok "HTTPS" json "d['choices'][0]['message']['content'] == json.load(open('$work/alone'))['text']"
stop
run 1 serve -m "$model" --port 0 --tls-cert "$work/cert.pem"
ok "a certificate without its key is refused" one_error_line

# --- adapters
mkdir "$work/hats"
printf '{"prompt":"Say it.","completion":"Ahoy!"}\n' >"$work/rows.jsonl"
run 0 tune -m "$model" -d "$work/rows.jsonl" -o "$work/hats/pirate" --max-steps 12 --lr 2e-3 --eval-split 0 --quiet
ok "an adapter is trained" test -r "$work/hats/pirate/adapter_model.safetensors"
say='"messages":[{"role":"user","content":"Say it."}],"temperature":0,"max_tokens":6'
serve -m "$model" -a one="$work/hats/pirate" --adapter-dir "$work/hats"
ask 200 /v1/models
ok "models lists base and adapter" json "[(m['id'], m['parent']) for m in d['data']] == [('smol', None), ('smol:one', 'smol')]"
chat 200 "{\"model\":\"smol:one\",$say}"
cp "$out" "$work/hat"
ok "an adapter by its model name" json "d['model'] == 'smol:one' and d['choices'][0]['message']['content'].startswith('Ahoy')"
chat 200 "{\"model\":\"smol\",$say}"
cp "$out" "$work/bare"
ok "the base is as it was" json "not d['choices'][0]['message']['content'].startswith('Ahoy')"
chat 200 "{\"model\":\"smol\",\"lora\":[{\"name\":\"one\",\"scale\":1}],$say}"
ok "a weighted list wears the same" json "d['choices'] == json.load(open('$work/hat'))['choices']"
chat 404 "{\"model\":\"smol:two\",$say}"
ok "an adapter that is not there" said "'model'" "'smol:two'"
post 403 /v1/load_lora_adapter "{\"lora_name\":\"two\",\"lora_path\":\"$work/hats/../rows.jsonl\"}"
ok "a path outside the folder is refused" json "d['error']['code'] == 'path_not_allowed'"
post 200 /v1/load_lora_adapter "{\"lora_name\":\"two\",\"lora_path\":\"$work/hats/pirate\"}"
ok "loading" json "d['model'] == 'two'"
post 400 /v1/load_lora_adapter "{\"lora_name\":\"two\",\"lora_path\":\"$work/hats/pirate\"}"
ok "a name that is taken" json "'already' in d['error']['message']"
for m in smol smol:one smol:two; do
    curl -s -o "$work/mixed-$m" "$url/v1/chat/completions" --data-binary "{\"model\":\"$m\",$say}" &
    eval "p_$(echo "$m" | tr -d :)=\$!"
done
# shellcheck disable=SC2154
wait "$p_smol" "$p_smolone" "$p_smoltwo"
check "base and adapters at the same time say what they say alone" python3 -c "
import json
said = lambda f: json.load(open(f))['choices'][0]['message']['content']
assert said('$work/mixed-smol') == said('$work/bare') and said('$work/mixed-smol:one') == said('$work/hat') == said('$work/mixed-smol:two')"
ask 200 /lora-adapters
ok "adapters are listed with the hash of their content" json "[a['name'] for a in d] == ['one', 'two'] and d[0]['hash'] == d[1]['hash']"
post 200 /v1/unload_lora_adapter '{"lora_name":"two"}'
chat 404 "{\"model\":\"smol:two\",$say}"
ok "unloading" said "'model'" "'smol:two'"
kill -HUP "$pid"
sleep 1
chat 200 "{\"model\":\"smol:one\",$say}"
ok "SIGHUP reads adapters again" json "d['choices'][0]['message']['content'].startswith('Ahoy')"
stop
ok "it ends with adapters" true

# --- embeddings
check "TOQUE_TEST_EMBEDDER names the embedder" test -d "${TOQUE_TEST_EMBEDDER:-}"
if [ -d "${TOQUE_TEST_EMBEDDER:-}" ]; then
    serve -m "$model" --embedder "$TOQUE_TEST_EMBEDDER"
    printf 'a cat\n' | "$TOQUE" embed -m "$TOQUE_TEST_EMBEDDER" >"$work/vector"
    post 200 /v1/embeddings '{"input":["a cat","a dog"]}'
    ok "embeddings are those of embed" json "max(abs(a - b) for a, b in zip(d['data'][0]['embedding'], json.load(open('$work/vector')))) < 1e-6 and len(d['data']) == 2 and d['usage']['prompt_tokens'] > 0"
    cp "$out" "$work/floats"
    post 200 /v1/embeddings '{"input":["a cat","a dog"],"encoding_format":"base64"}'
    ok "base64 holds the same floats" python3 -c "
import base64, json, struct
a = json.load(open('$work/floats'))['data'][1]['embedding']
b = base64.b64decode(json.load(open('$out'))['data'][1]['embedding'])
assert [struct.pack('<f', x) for x in a] == [b[i:i + 4] for i in range(0, len(b), 4)]"
    post 400 /v1/embeddings "{\"input\":\"$(python3 -c "print('word ' * 600)")\"}"
    ok "a text that is too long is refused with its counts" said "'input'" "'602'"
    post 200 /rerank '{"query":"cat","documents":["a dog barks","kittens purr"],"top_n":1,"return_documents":true}'
    ok "rerank" json "[(r['index'], r['document']) for r in d['results']] == [(1, {'text': 'kittens purr'})]"
    post 200 /rerank '{"query":"cat","texts":["a dog barks","kittens purr"]}'
    ok "rerank in the other shape" json "[r['index'] for r in d] == [1, 0]"
    stop
    ok "it ends with an embedder" true
fi
printf 'short\n' >"$work/short"
run 1 serve -m "$model" --port 0 --api-key-file "$work/short"
ok "a short key is refused with its line" err_has "line 1"
finish
