#!/bin/sh
# Bad input to the real program, with a small random model: each kind ends with one error line that names the file or
# option and says what was found, and leaves nothing behind.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
write_model=$(dirname "$TOQUE")/tests/faults/write_small_model
cd "$work" || exit 1
check "the small model is written" "$write_model" m.gguf
printf '{"prompt":"a?","completion":"b"}\n{"prompt":"b?","completion":"c"}\n{"prompt":"c?","completion":"d"}\n' >rows.jsonl

# refused NAME WORDS ARGUMENT...: exit status 1, one line of error that has WORDS; tune leaves no folder `no`.
refused() {
    what=$1 words=$2
    shift 2
    run 1 "$@"
    ok "$what" one_error_line
    ok "$what: it is told" err_has "$words"
    check "$what: nothing is left behind" test ! -e no
}
tune() { refused "$1" "$2" tune -m "${3:-m.gguf}" -d "${4:-rows.jsonl}" -o no --quiet --eval-split 0; }

# --- models
size=$(wc -c <m.gguf)
head -c $((size - 1)) m.gguf >short.gguf
tune "a model that lacks its last byte" short.gguf short.gguf
head -c 100 m.gguf >head.gguf
tune "a model of which only the head is there" head.gguf head.gguf
printf 'GGUX' | cat - m.gguf >magic.gguf
tune "a file that is no GGUF" magic.gguf magic.gguf
LC_ALL=C sed 's/llama/lxama/' m.gguf >arch.gguf
tune "an unknown architecture" "'lxama' is not supported" arch.gguf
tune "a model that is not there" "none.gguf" none.gguf
: >empty
tune "an empty file as a model" empty empty

# --- rows
printf '{"prompt":"a?","completion":"b"}\n{"prompt":"a?", completion}\n' >broken.jsonl
tune "broken JSON" "broken.jsonl: line 2, column" m.gguf broken.jsonl
printf '{"prompt":"a?","completion":"b"}\n{"prompt":"a?"}\n' >missing.jsonl
tune "a missing field" 'missing.jsonl: line 2: field "completion" is missing' m.gguf missing.jsonl
printf '{"prompt":"a?","completion":"b"}\n{"prompt":"a?","completion":" "}\n' >blank.jsonl
tune "an empty answer" 'blank.jsonl: line 2: the answer, field "completion", is empty' m.gguf blank.jsonl
tune "an empty data file" "empty" m.gguf empty
tune "a data file that is not there" "none.jsonl" m.gguf none.jsonl
refused "all rows too long" "have more than max_length 5 tokens" tune -m m.gguf -d rows.jsonl -o no --quiet --max-length 5
printf '{"prompt":"%60s","completion":"b"}\n' x >>rows.jsonl
run 0 tune -m m.gguf -d rows.jsonl -o long --max-length 60 --eval-split 0 --epochs 1
ok "a row that is too long is dropped and counted" err_has "1 DROPPED: longer than max_length 60"
run 0 score -m m.gguf rows.jsonl --quiet
ok "all rows fit the context" test "$(wc -l <"$out")" = 4

# --- options
run 2 tune -m m.gguf -d rows.jsonl -o no --learning-rte 1
ok "an unknown option suggests the nearest" err_has "did you mean --learning-rate?"
printf 'rank: 4\nlerning_rate: 1\n' >config.yaml
run 2 tune -m m.gguf -d rows.jsonl -o no --config config.yaml
ok "an unknown key of --config is told with its line" err_has "config.yaml"
ok "and the nearest is named" err_has "learning_rate"
check "nothing is left behind" test ! -e no

# --- adapters
run 0 tune -m m.gguf -d rows.jsonl -o hat --rank 2 --epochs 1 --eval-split 0 --quiet
ok "a hat is tuned" test -s hat/adapter_model.safetensors
run 0 score -m m.gguf -a hat rows.jsonl --quiet
ok "its own base takes it without a word" err_is ""
cp "$out" own
head -c $((size - 1)) m.gguf >other.gguf && printf '\077' >>other.gguf
run 0 score -m other.gguf -a hat rows.jsonl --quiet
ok "another base of the same shapes is warned of" err_has "hat was tuned on a base with hash"
cp -r hat cut && head -c 500 hat/adapter_model.safetensors >cut/adapter_model.safetensors
refused "a cut adapter" cut/adapter_model.safetensors score -m m.gguf -a cut rows.jsonl
cp -r hat wrong && sed 's/"r": 2/"r": 3/' hat/adapter_config.json >wrong/adapter_config.json
refused "an adapter of other shapes" "made for another model" score -m m.gguf -a wrong rows.jsonl
refused "a folder that is no adapter" "adapter_config.json" score -m m.gguf -a . rows.jsonl

# --- templates
printf '[{"role":"user","content":"x"}]' >messages.json
printf '{%% for a in range(100000) %%}{%% for b in range(100000) %%}{%% endfor %%}{%% endfor %%}' >steps.jinja
refused "a template without end" steps.jinja template --template steps.jinja --messages messages.json
printf '{{ "x" * 1000000000 }}' >bytes.jinja
refused "a template of too many bytes" bytes.jinja template --template bytes.jinja --messages messages.json
awk 'BEGIN { printf "{{ "; for (i = 0; i < 100000; i++) printf "("; print "1 }}" }' >deep.jinja
refused "a template nested too deep" deep.jinja template --template deep.jinja --messages messages.json

# --- memory
refused "no memory for a training" "--max-memory" tune -m m.gguf -d rows.jsonl -o no --quiet --max-memory 1500K
finish
