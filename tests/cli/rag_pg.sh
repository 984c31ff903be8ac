#!/bin/sh
# The rag commands with a store in PostgreSQL, on a real server with pgvector (TOQUE_TEST_POSTGRES, from
# script/fetch-postgres), beside the same documents in an SQLite store: both must find the same with the same scores.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
# shellcheck source=tests/postgres.inc
. "$(dirname "$0")/../postgres.inc"
unset TOQUE_MODEL
here=$(cd "$(dirname "$0")/../.." && pwd)
cd "$work" || exit 1

# Without a server
run 1 rag list 'postgresql://nobody:secret@/x?host=/nowhere&password=secret2'
ok "no server" err_has 'cannot connect to postgresql://nobody@/x?host=/nowhere'
ok "a password stands in no message" sh -c "! grep -q secret '$err'"

check "TOQUE_TEST_POSTGRES names the folder" test -x "${TOQUE_TEST_POSTGRES:-}/bin/postgres"
[ -x "${TOQUE_TEST_POSTGRES:-}/bin/postgres" ] || finish
check "the server starts" pg_start
[ -n "${pg_url:-}" ] || finish
json() { python3 -c "import json,sys; d=[json.loads(l) for l in open(sys.argv[1])]; sys.exit(0 if eval(sys.argv[2]) else 1)" "$out" "$1"; }

run 1 rag list "$pg_url"
ok "there is no store yet" err_has 'there is no store in postgresql://toque@/postgres'
mkdir docs
for f in README.md docs/rag.md docs/style.md docs/architecture.md; do cp "$here/$f" docs/; done
printf 'D\303\251j\303\240 vu \377\376 and a stray byte.\n' >docs/latin.txt

run 0 rag add "$pg_url" docs --embedder none --meta team=blue --json
ok "rag add makes the store" json "d[0]['added'] == 5 and d[0]['chunks'] > 20"
run 0 rag add s.db docs --embedder none --meta team=blue --json
ok "the same in SQLite" json "d[0]['added'] == 5"
run 0 rag add "$pg_url" docs
ok "unchanged files cost nothing" out_has '0 added, 0 changed, 5 unchanged, 0 removed, 0 failed; 0 chunks'

# same QUERY OPTION...: both stores give the same passages with the same scores.
same() {
    run 0 rag search "$pg_url" "$@" --json
    sed 's/"id": *[0-9]*//g' "$out" >pg.out
    run 0 rag search s.db "$@" --json
    ok "the same results: $*" sh -c "sed 's/\"id\": *[0-9]*//g' '$out' | cmp - pg.out && grep -q '\"score\"' pg.out"
}
same 'how are vectors searched' -k 10
same 'errors and memory of every function' -k 10 --k1 0.9 --b 0.4
same 'store embedder' --where 'document~docs/r*' -k 10
same 'store embedder' --where 'document!=docs/rag.md' --where team=blue
same 'deja vu'
run 0 rag search "$pg_url" 'qqqq zzzz' --json
ok "nothing found" json "d[0]['results'] == []"
run 1 rag search "$pg_url" store --where colour=red
ok "a filter on an unknown key names those there are" err_has 'team'
run 0 rag ask "$pg_url" 'rag ask looks at every sentence of the best passages' --threshold 0.01 --json
ok "rag ask" json "d[0]['answered'] and d[0]['sentences']"
run 0 rag list "$pg_url" --json
ok "rag list" json "len(d) == 5 and d[0]['metadata']['team'] == 'blue'"

# Changed and removed documents leave no trace
printf 'Only zebras here.\n' >docs/style.md
rm docs/architecture.md
run 0 rag add "$pg_url" docs
ok "changed and gone" out_has '0 added, 1 changed, 3 unchanged, 1 removed'
run 0 rag search "$pg_url" zebras --json
ok "the new words are found" json "d[0]['results'][0]['document'] == 'docs/style.md'"
check "no postings without a document" test "$(pg_sql 'SELECT count(*) FROM toque.postings WHERE document NOT IN (SELECT id FROM toque.documents)')" = 0
run 0 rag rm "$pg_url" 'docs/latin.txt'
check "rag rm" test "$(pg_sql 'SELECT count(*) FROM toque.documents')" = 3

# Two writers at once: each document is there once, with all its words
mkdir many
i=0
while [ $i -lt 40 ]; do
    printf 'Document number %d tells of animal%d.\n' $i $i >many/$i.txt
    i=$((i + 1))
done
"$TOQUE" rag add "$pg_url" many --quiet >w1.out 2>&1 &
first=$!
"$TOQUE" rag add "$pg_url" many --quiet >w2.out 2>&1
second=$?
wait $first
expect 0 $((second + $?))
ok "two writers" test "$(pg_sql "SELECT count(*) FROM toque.documents WHERE root = 'many'")" = 40
check "every word has one posting" test "$(pg_sql "SELECT count(*) FROM toque.postings WHERE term LIKE 'animal%'")" = 40

# Rows of tables
pg_sql "CREATE TABLE public.articles(id int, title text, body text); INSERT INTO public.articles VALUES
    (1, 'Owls', 'Owls hunt at night.'), (2, 'Larks', 'Larks sing at dawn.'), (3, NULL, NULL)"
run 0 rag add rows.db "$pg_url" --sql 'SELECT id, title, body FROM public.articles;' --embedder none
ok "--sql over PostgreSQL" out_has '3 added'
run 0 rag search rows.db 'who sings?' --json
ok "a row is a document" json "d[0]['results'][0]['document'].endswith('#2') and d[0]['results'][0]['title'] == 'Larks'"
run 0 rag add rows.db "$pg_url" --sql 'SELECT id, title, body FROM public.articles'
ok "unchanged rows" out_has '0 added, 0 changed, 3 unchanged'
run 1 rag add rows.db "$pg_url" --sql 'DELETE FROM public.articles RETURNING id, body'
ok "nothing but reading" test "$(pg_sql 'SELECT count(*) FROM public.articles')" = 3
run 1 rag add rows.db "$pg_url" --sql 'SELECT id, body FROM public.articles' --key nope
ok "an unknown key" err_has "no column 'nope'"

# Another embedder is refused, --reembed makes it anew
run 0 rag add "$pg_url" --reembed --embedder none --chunk-tokens 64 --overlap 0
run 0 rag list "$pg_url" --json
ok "--reembed keeps the documents" json "len(d) == 43"
run 0 rag add "$pg_url" docs
ok "and their state" out_has '1 added, 0 changed, 3 unchanged'
check "nothing is left beside" test "$(pg_sql "SELECT count(*) FROM pg_namespace WHERE nspname = 'toque_new'")" = 0
pg_sql "UPDATE toque.facts SET value = '99' WHERE key = 'layout'"
run 1 rag list "$pg_url"
ok "a newer layout is refused" err_has 'made by a newer toque'
pg_sql "UPDATE toque.facts SET value = '1' WHERE key = 'layout'"

# Vectors, with the real embedder
[ -r "${TOQUE_TEST_EMBEDDER:-}/config.json" ] || finish
pg_sql 'DROP SCHEMA toque CASCADE'
rm -f s.db*
run 0 rag add "$pg_url" docs many --embedder "$TOQUE_TEST_EMBEDDER"
run 0 rag add s.db docs many --embedder "$TOQUE_TEST_EMBEDDER"
same 'which animal is told of in document seven' --mode vector -k 10
same 'how are vectors searched' --mode hybrid -k 10
same 'how are vectors searched' --where 'document~many/*' -k 10
same 'how are vectors searched' --mmr 0.5 -k 5
pg_stop
run 1 rag search "$pg_url" owls
ok "a server that is gone" err_has 'cannot connect to'
finish
