#!/bin/sh
# The program's frame: help, version, usage errors, --config, exit status, output that cannot be written.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL

run 0 --version
ok "--version names the program" grep -qE '^toque [0-9]+\.[0-9]+\.[0-9]+$' "$out"
run 0 --help
ok "--help groups the commands" out_has "Other:"
run 0 help
ok "help lists info" out_has "  info "
run 0 info --help
ok "a command's help shows usage" out_has "Usage: toque info"
ok "a command's help shows an example" out_has "Example:"
ok "a command's help shows the common options" out_has "      --threads N "
cp "$out" "$work/help"
run 0 help info
ok "help COMMAND is COMMAND --help" cmp -s "$out" "$work/help"
run 0 info --help --config /nowhere/file
ok "--help reads no recipe" cmp -s "$out" "$work/help"

run 2
ok "no command is wrong usage" one_error_line
run 2 inof
ok "an unknown command suggests the nearest" err_is "toque: error: unknown command 'inof'; did you mean 'info'? (see toque --help)"
run 2 info --treads 2
ok "an unknown option suggests the nearest" err_has "unknown option --treads; did you mean --threads?"
ok "an error is one line" one_error_line
for bad in '--threads 0' '--threads=1025' '--threads=nan' '--threads=' '--threads' '--compute=fp8' '--max-memory=lots' 'argument' '-x'; do
    # shellcheck disable=SC2086
    run 2 info $bad
    ok "info $bad is wrong usage" one_error_line
done
run 2 info "$(printf 'a\nb\033[31m')"
ok "control bytes of an argument stay out of the message" one_error_line
ok "no escape sequence reaches the terminal" sh -c "! grep -q '$(printf '\033')' '$err'"
run 2 --threads 2 info
ok "an option before the command is explained" err_has "before the command"
run 2 help info more
ok "help takes one command" one_error_line

cat >"$work/recipe.yaml" <<'END'
threads: 1
json: true
END
run 0 info --config "$work/recipe.yaml"
ok "a recipe sets options" out_has '"threads":1,'
run 0 --version
run 0 info --config="$work/recipe.yaml" --threads 2 --no-json
ok "flags override the recipe" out_has 'threads: 2'
echo 'treads: 2' >"$work/recipe.yaml"
run 2 info --config "$work/recipe.yaml"
ok "a recipe's mistake is wrong usage, with its line" err_has "recipe.yaml, line 1: unknown key treads; did you mean threads?"
run 1 info --config "$work/none.yaml"
ok "a missing recipe has failed" one_error_line

run 0 info --json
ok "info --json is one line" [ "$(wc -l <"$out")" -eq 1 ]
ok "info --json is an object with the version" grep -qE '^\{"version":"[0-9.]+".*\}$' "$out"
run 0 info --json --max-memory 1Gi --threads 3
ok "info shows the limit" out_has '"memory_limit":1073741824'
ok "info shows the threads" out_has '"threads":3,'
run 1 info --max-memory 1M
ok "a limit too small for the threads is refused" one_error_line
TOQUE_ISA=ref run 0 info --json
ok "TOQUE_ISA caps the instruction set" out_has '"isa":"ref"'
TOQUE_ISA=abacus run 1 info --json
ok "an unknown instruction set is an error" one_error_line
run 0 info --json --compute f32
ok "--compute f32 is used" out_has '"compute":"f32"'

: >"$out"
"$TOQUE" info >/dev/full 2>"$err"
expect 1 $?
ok "a full disk is an error" err_has "cannot write standard output: No space left on device"
"$TOQUE" info >&- 2>"$err"
expect 1 $?
ok "a closed standard output is an error" err_has "cannot write standard output"
{ sleep 0.3; "$TOQUE" info 2>"$err"; echo $? >"$work/status"; } | true
expect 1 "$(cat "$work/status")"
ok "a reader that went away is an error" err_has "Broken pipe"

for shell in bash zsh fish; do
    run 0 completion $shell
    ok "completion $shell knows info" out_has info
    if [ $shell = bash ]; then check "the bash completion parses" bash -n - <<END
$("$TOQUE" completion bash)
END
    fi
done
cat >"$work/complete.bash" <<'END'
source /dev/stdin <<<"$("$1" completion bash)"
COMP_WORDS=(toque info --compute b) COMP_CWORD=3
_toque
[ "${COMPREPLY[*]}" = bf16 ] || exit 1
COMP_WORDS=(toque inf) COMP_CWORD=1
_toque
[ "${COMPREPLY[*]}" = info ]
END
check "bash completes commands and choices" bash "$work/complete.bash" "$TOQUE"
run 2 completion tcsh
ok "an unknown shell is wrong usage" one_error_line

# Every command that the program has: help works, unknown options are refused.
"$TOQUE" --help | sed -n 's/^  \([a-z]\{2,\}\( [a-z]\{2,\}\)\{0,1\}\)  .*/\1/p' >"$work/commands"
check "the list of commands was found" grep -qx info "$work/commands"
while read -r command; do
    # shellcheck disable=SC2086
    run 0 $command --help </dev/null
    ok "$command --help" out_has "Usage: toque $command"
    sed -n '/^Example:/,/^Options:/p' "$out" >"$work/example"
    cp "$work/example" "$out"
    ok "$command --help has an example" out_has "toque $command"
    # shellcheck disable=SC2086
    run 2 $command --no-such-option </dev/null
    ok "$command refuses an unknown option" one_error_line
done <"$work/commands"
finish
