#!/bin/sh
# rag add, list, search, ask, eval, rm: a folder of small files through the real program, in a store without vectors.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
cd "$work" || exit 1
json() { python3 -c "import json,sys; d=[json.loads(l) for l in open(sys.argv[1])]; sys.exit(0 if eval(sys.argv[2]) else 1)" "$out" "$1"; }

mkdir docs docs/sub
printf '# Cats\n\nCats sleep most of the day. They like warm places.\n\n## Food\n\nThey eat fish twice a day.\n' >docs/cats.md
printf 'Dogs run fast.\n\nThey bark at night, d\303\251j\303\240 vu.\n' >docs/sub/dogs.txt
printf '{broken' >docs/bad.json

run 2 rag add new.db docs
ok "a new store needs its embedder named" err_has '--embedder none'
check "and is not made" test ! -e new.db
run 2 rag add new.db --embedder none
ok "rag add needs a path" one_error_line
run 1 rag add new.db nowhere --embedder none
ok "a path that is not there" err_has 'there is no file or folder nowhere'
run 1 rag add s.db docs --embedder none --meta team=blue --json
ok "a broken file is reported, the others are added" json "d[0]['added'] == 2 and len(d[0]['failed']) == 1 and d[0]['failed'][0]['document'] == 'docs/bad.json'"
ok "the exit status tells" err_has '1 of 3 documents could not be added'
rm docs/bad.json
run 0 rag add s.db docs
ok "unchanged files cost nothing" out_has '0 added, 0 changed, 2 unchanged, 0 removed, 0 failed; 0 chunks'
run 0 rag list s.db --json
ok "rag list --json" json "[x['document'] for x in d] == ['docs/cats.md','docs/sub/dogs.txt'] and d[0]['metadata'] == {'team':'blue'} and d[0]['title'] == 'Cats' and d[0]['format'] == 'markdown'"
run 0 rag search s.db 'what do cats eat' --json -k 2 --stages
ok "rag search finds by words" json "d[0]['mode'] == 'bm25' and d[0]['results'][0]['heading'] == 'Cats > Food' and d[0]['results'][0]['stages']['bm25']['rank'] == 1"
ok "start and end are bytes of the file" json "all(open(r['document'],'rb').read()[r['start']:r['end']].decode() == r['text'] for r in d[0]['results'])"
run 0 rag search s.db 'deja vu'
ok "diacritics are folded" out_has 'docs/sub/dogs.txt'
run 0 rag search s.db 'they' --where 'document~docs/sub/*' --json --language fr
ok "--where" json "len(d[0]['results']) == 0 or all(r['document'] == 'docs/sub/dogs.txt' for r in d[0]['results'])"
mkdir plain
printf 'Walking dogs.\n' >plain/a.txt
run 0 rag add p.db plain --embedder none --language none
run 0 rag search p.db 'walked' --json
ok "--language none: no stemming" json "d[0]['results'] == []"
run 0 rag search p.db 'walking' --language none --json
ok "words as they are" json "len(d[0]['results']) == 1 and d[0]['results'][0]['language'] == ''"
run 1 rag search s.db cats --where colour=red
ok "a filter on an unknown key names those there are" err_has 'team'
run 1 rag search s.db cats --mode vector
ok "no vectors in this store" err_has '--mode bm25'
run 0 rag ask s.db 'which warm places do cats like?' --threshold 0.3 --json
ok "rag ask quotes word for word" json "d[0]['answered'] and d[0]['sources'][0]['text'] == 'They like warm places.' and all(open(q['document'],'rb').read()[q['start']:q['end']].decode() == q['text'] for q in d[0]['sources'])"
run 0 rag ask s.db 'how do I install a printer?'
ok "rag ask abstains" out_has 'The documents do not answer this.'
printf 'Cows graze.\n' >docs/cows.txt
rm docs/sub/dogs.txt
run 0 rag add s.db docs/
ok "what is gone is removed, what is new is added" out_has '1 added, 0 changed, 1 unchanged, 1 removed'
printf 'From a pipe.\n' | "$TOQUE" rag add s.db - --name note >"$out" 2>"$err"
expect 0 $?
ok "standard input" out_has '1 added'
run 0 rag rm s.db 'docs/*'
ok "rag rm takes patterns" err_has 'removed 2 documents'
run 1 rag rm s.db nothing
ok "rag rm of what is not there" err_has 'no document nothing'
run 1 rag add s.db docs --chunk-tokens 40
ok "other chunks are refused" err_has '--reembed'
run 0 rag add s.db docs --chunk-tokens 40 --reembed
ok "and made with --reembed" out_has '2 added'
run 1 rag search nope.db x
ok "no store" err_has 'there is no store nope.db'
echo text >text.db
run 1 rag list text.db
ok "a file that is no store" err_has 'no store'

# rag eval: three questions with an answer, two without
mkdir evaluated
printf '# Cats\n\nCats sleep most of the day. They like warm places.\n\n## Food\n\nThey eat fish twice a day.\n' >evaluated/cats.md
printf '# Dogs\n\nDogs run fast. They bark at night.\n' >evaluated/dogs.md
printf '# Boats\n\nThe harbour is full of boats. Anchors are made of iron.\n' >evaluated/boats.md
run 0 rag add e.db evaluated --embedder none
cat >q.jsonl <<'EOF'
{"question": "how long do cats sleep?", "document": "cats.md", "answer": "most of the day"}
{"question": "what are anchors made of?", "document": "evaluated/boats.md", "answer": ["steel", "iron"]}

{"question": "fast dogs", "document": "*/cats.md"}
{"question": "who invented the telephone?", "answerable": false}
{"question": "which mountains are highest?", "answerable": false}
EOF
run 0 rag eval e.db q.jsonl --json
ok "ranks are measured over documents" json "[s['stage'] for s in d[0]['stages']] == ['bm25'] and abs(d[0]['stages'][0]['recall@1'] - 2/3) < 1e-9 and abs(d[0]['stages'][0]['ndcg@10'] - 2/3) < 1e-9 and abs(d[0]['stages'][0]['mrr'] - 2/3) < 1e-9"
# "how long do cats sleep?": the best sentence lacks "long", which no passage has, and stays below 0.5; "fast dogs" is
# answered from the wrong document
ok "answers, one of several right" json "d[0]['answers']['n'] == 2 and d[0]['answers']['held_by_best'] == 0.5 and d[0]['answers']['exact'] == 0 and 0 < d[0]['answers']['f1'] < 1"
ok "citations" json "abs(d[0]['citations']['recall'] - 1/3) < 1e-9 and d[0]['citations']['precision'] == 0.5"
ok "abstention" json "(lambda a: a['recall'] == 1 and abs(a['precision'] - 2/3) < 1e-9 and abs(a['f1'] - 0.8) < 1e-9 and a['auc'] == 1 and a['threshold'] == 0.5)(d[0]['abstention'])"
ok "the learned cut is half way" python3 -c "import json,sys; from math import log; a = json.load(open(sys.argv[1]))['abstention']; sys.exit(abs(a['learned'] - (log(2) + log(10/3)) / (log(2) + log(10/3) + log(10)) / 2) > 1e-9)" "$out"
run 0 rag eval e.db q.jsonl --learn
ok "the table" out_has 'abstention at 0.5000'
ok "--learn tells what it keeps" err_has 'rag ask answers from a score of'
run 0 rag eval e.db q.jsonl --json
ok "and rag ask goes by it" json "d[0]['abstention']['threshold'] == d[0]['abstention']['learned'] and d[0]['abstention']['f1'] == 1 and d[0]['answers']['held'] == 1"
printf '{"question": "x", "document": "nowhere.md"}\n' >bad.jsonl
run 1 rag eval e.db bad.jsonl
ok "a document that is not in the store" err_has 'bad.jsonl:1: the store has no document nowhere.md'
printf '\n{"question": "x", "documnet": "cats.md"}\n' >bad.jsonl
run 1 rag eval e.db bad.jsonl
ok "a misspelt key is named with its line" err_has 'bad.jsonl:2: "documnet" is not known'
printf '{"question": "cats sleep", "answer": "the"}\n' >bad.jsonl
run 1 rag eval e.db bad.jsonl
ok "an answer of no words" err_has "bad.jsonl:1: the answer 'the' has no words"
printf '{"question": "x"}\n' >bad.jsonl
run 1 rag eval e.db bad.jsonl
ok "neither document nor answer" err_has '"answerable": false'
run 1 rag eval e.db /dev/null
ok "no questions" err_has 'has no questions'
printf '{"question": "cats sleep", "document": "cats.md"}\n' >bad.jsonl
run 1 rag eval e.db bad.jsonl --learn
ok "--learn needs both kinds" err_has '"answerable": false'

# sentences must be there, as the store has them; ways to answer
printf '{"question": "how do cats live?", "document": "cats.md", "sentence": "They  like\\nwarm places.", "answer": "warm places"}\n{"question": "which mountains are highest?", "answerable": false}\n' >s.jsonl
run 0 rag eval e.db s.jsonl --json
ok "a sentence is found, whatever blanks are in it" json "d[0]['inexact_quotations'] == 0 and [w['way'] for w in d[0]['ways']] == ['quote']"
printf '{"question": "how do cats live?", "document": "dogs.md", "sentence": "They like warm places."}\n' >bad.jsonl
run 1 rag eval e.db bad.jsonl
ok "a sentence that its document has not" err_has "bad.jsonl:1: none of the question's documents has its sentence: They like warm places."
run 2 rag eval e.db s.jsonl --answer wriet
ok "an unknown way" err_has '--answer wriet is not known'
run 2 rag eval e.db s.jsonl -m nowhere
ok "a model that nothing needs" err_has 'nothing here needs a model'
run 2 rag search e.db cats -m nowhere
ok "a search needs a model only with --expand or --rerank" err_has '--expand or --rerank'
run 1 rag search e.db cats --expand hyde -m nowhere
ok "a model that is not there" err_has 'nowhere'
printf '{"question": "%s", "document": "cats.md"}\n' "cats $(seq -s ' w' 1 300)" >long.jsonl
run 0 rag eval e.db long.jsonl --json
ok "a question of 300 different words is asked like any other" json "d[0]['stages'][0]['mrr'] == 1"

# rag label: questions from standard input; whole after each, and resumable
mkdir labelled
printf '# Bees\n\nBees dance to tell where the flowers are. A hive has one queen, who lays all of the eggs in spring and in summer, up to two thousand a day. A bee finds her way home by the sun.\n' >labelled/bees.md
printf '# Ants\n\nAnts carry many times their weight. Their roads are marked by scent, which the first ant leaves on her way home from food she has found.\n' >labelled/ants.md
run 0 rag add l.db labelled --embedder none
printf '/none who sells honey?\nwhat is asked first?\nnot in there\nWAY home\n' >typed1
printf 'what is asked first?\nnot in there\nway home\n' >typed2
"$TOQUE" rag label l.db labels.jsonl --seed 3 <typed1 >"$out" 2>"$err"
expect 0 $?
ok "an answer that no sentence has is asked again" out_has 'No sentence of the passage has these words'
first=$(wc -l <labels.jsonl)
"$TOQUE" rag label l.db labels.jsonl --seed 3 <typed2 >"$out" 2>"$err"
expect 0 $?
ok "a passage with a question is not shown again" test "$(grep -c '^labelled/' "$out")" -le 1
ok "the file grew" test "$(wc -l <labels.jsonl)" -gt "$first"
run 0 rag eval l.db labels.jsonl --json
ok "what was typed can be evaluated" json "d[0]['questions'] >= 3 and d[0]['answerable'] == d[0]['questions'] - 1"
echo 'dear diary' >diary.txt
"$TOQUE" rag label l.db diary.txt </dev/null >"$out" 2>"$err"
expect 1 $?
ok "a file of something else is not written over" err_has 'diary.txt:1: no question of rag eval'

# a model helps to search, writes questions, and answers in several ways
check "TOQUE_TEST_MODEL names the model" test -r "${TOQUE_TEST_MODEL:-}"
if [ -r "${TOQUE_TEST_MODEL:-}" ]; then
    run 0 rag search l.db 'what marks the roads of ants?' --rerank likelihood --expand queries --explain --json -m "$TOQUE_TEST_MODEL"
    ok "stages of a helped search" json "(lambda r: 'rerank' in r['stages'] and 'fused' in r['stages'] and r['stages']['rerank']['rank'] == 1 and r['document'] == 'labelled/ants.md' and r['score'] < 0)(d[0]['results'][0])"
    run 1 rag search l.db 'ants' --expand hyde -m "$TOQUE_TEST_MODEL"
    ok "hyde needs vectors" err_has 'compared by its vector'
    run 0 rag synth l.db -m "$TOQUE_TEST_MODEL" -n 2
    ok "the yield is told" err_has 'questions kept ('
    cp "$out" synth.jsonl
    if [ -s synth.jsonl ]; then
        run 0 rag eval l.db synth.jsonl --json
        ok "what was written can be evaluated" json "d[0]['stages'][0]['recall@5'] == 1"
    fi
    run 0 rag eval l.db labels.jsonl --answer all -n 30 -m "$TOQUE_TEST_MODEL" --learn --json
    ok "every way answers" json "[w['way'] for w in d[0]['ways']] == ['quote','closed','write','write-passages','write-gold']"
    ok "--learn tells what --answer auto does" err_has '--answer auto'
fi

# with vectors: the real embedder
check "TOQUE_TEST_EMBEDDER names the embedder" test -d "${TOQUE_TEST_EMBEDDER:-}"
if [ -d "${TOQUE_TEST_EMBEDDER:-}" ]; then
    mkdir pets
    printf '# Cats\n\nThe kitten purrs on the sofa. It hunts mice at night.\n' >pets/a.md
    printf '# Rockets\n\nThe engine burns liquid oxygen. It reaches orbit in nine minutes.\n' >pets/b.md
    run 0 rag add v.db pets --embedder none
    run 0 rag add v.db pets --reembed --embedder "$TOQUE_TEST_EMBEDDER"
    ok "--reembed gives a store vectors" out_has '2 unchanged'
    run 0 rag search v.db 'spacecraft' --mode vector -k 1 --json
    ok "vectors find what no word says" json "d[0]['results'][0]['document'] == 'pets/b.md'"
    run 0 rag search v.db 'kitten at night' --json --stages
    ok "hybrid joins both" json "d[0]['mode'] == 'hybrid' and set(d[0]['results'][0]['stages']) == {'vector','bm25'} and abs(d[0]['results'][0]['score'] - 2/61) < 1e-9"
    run 0 rag ask v.db 'what does the young cat do?' --threshold 0.3 --json
    ok "rag ask quotes by meaning" json "d[0]['sources'][0]['text'] == 'The kitten purrs on the sofa.'"
    printf '{"question": "spacecraft", "document": "b.md"}\n{"question": "young cat", "document": "a.md"}\n' >pets.jsonl
    run 0 rag eval v.db pets.jsonl --json
    ok "rag eval measures each stage" json "[s['stage'] for s in d[0]['stages']] == ['vector','bm25','hybrid'] and d[0]['stages'][0]['recall@1'] == 1 and d[0]['stages'][1]['recall@1'] < 1 and 0 < d[0]['stages'][1]['p'] <= 1 and 'p' not in d[0]['stages'][2]"
    run 1 rag add v.db pets --query-prefix 'query: '
    ok "other prefixes are refused" err_has '--reembed'
    printf 'x%.0s ' $(seq 400) >long.txt
    run 1 rag search v.db "$(cat long.txt)" --mode vector
    ok "an over-long question is refused, not cut" err_has 'shorten it'
    run 0 rag search v.db sofa --mode bm25 --embedder nowhere
    ok "words need no embedder" out_has 'pets/a.md'
fi

# two writers and kill -9: whole documents, and the next run goes on
mkdir many
i=0
while [ $i -lt 400 ]; do printf 'Document %d tells of thing%d.\n' $i $i >many/$i.txt && i=$((i + 1)); done
"$TOQUE" rag add k.db many --embedder none --quiet >/dev/null 2>&1 &
pid=$!
sleep 0.1
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
"$TOQUE" rag add k.db many --embedder none --quiet >one 2>&1 &
pid=$!
"$TOQUE" rag add k.db many --embedder none --quiet >two 2>&1
wait $pid
run 0 rag add k.db many --json
ok "after kill -9 and with two writers all is there once" json "d[0]['unchanged'] == 400"
run 0 rag search k.db thing123 --json
ok "and is found" json "[r['document'] for r in d[0]['results']] == ['many/123.txt']"
finish
