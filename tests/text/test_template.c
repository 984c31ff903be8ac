/* The template interpreter: agreement with jinja2 on small templates (data/template_snippets.jsonl, made by
 * tools/reference/template_snippets.py), origin marks, errors with their place, limits, and allocation faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "text/template.h"

static const char chatml[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

typedef struct run {
    tq_mem mem;
    toque_error err;
    toque_status status;
    tq_rendered out;
    uint64_t max_steps;
    size_t max_bytes;
} run;

static json_t *json(const char *text) {
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    if (!j) fail_msg("%s", e.text);
    return j;
}

static void render(run *r, const char *source, size_t n, const json_t *messages, const json_t *vars, bool prompt) {
    tq_template *t = NULL;
    memset(&r->err, 0, sizeof r->err);
    memset(&r->out, 0, sizeof r->out);
    r->status = tq_template_parse(&t, &r->mem, source, n, "T", &r->err);
    tq_render_options o = {.messages = (json_t *)(uintptr_t)messages,
                           .vars = (json_t *)(uintptr_t)vars,
                           .add_generation_prompt = prompt,
                           .now = 1721900000,
                           .max_steps = r->max_steps,
                           .max_bytes = r->max_bytes};
    if (r->status == TOQUE_OK) r->status = tq_template_render(t, &r->mem, &o, &r->out, &r->err);
    tq_template_free(t);
}

static void finish(run *r) {
    tq_rendered_clear(&r->out);
    assert_int_equal(atomic_load(&r->mem.used), 0);
}

/* ---- agreement ---- */

static void snippets_agree_with_jinja2(void **state) {
    (void)state;
    run r = {0};
    char *text;
    size_t n, count = 0, bad = 0;
    assert_int_equal(tq_read_file(&text, &n, &r.mem, TEST_DATA "/template_snippets.jsonl", 1 << 22, &r.err), TOQUE_OK);
    json_t *head = NULL;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *j = json_loadb(line, (size_t)(end - line), 0, NULL);
        assert_non_null(j);
        if (!head) {
            head = j;
            continue;
        }
        const json_t *source = json_array_get(j, 0), *want = json_array_get(j, 1);
        render(&r, json_string_value(source), json_string_length(source), json_object_get(head, "messages"),
               json_object_get(head, "vars"), false);
        bool ok = r.status == TOQUE_OK;
        bool same = json_is_null(want) ? !ok
                                       : ok && r.out.len == json_string_length(want) &&
                                             memcmp(r.out.text, json_string_value(want), r.out.len) == 0;
        if (!same) {
            print_message("%s\n  jinja2: %s\n  ours:   %s\n", json_string_value(source),
                          json_is_null(want) ? "(error)" : json_string_value(want), ok ? r.out.text : r.err.message);
            bad++;
        }
        count++;
        tq_rendered_clear(&r.out);
        json_decref(j);
    }
    json_decref(head);
    tq_free(&r.mem, text);
    assert_true(count > 500);
    assert_int_equal(bad, 0);
    finish(&r);
}

/* ---- marks ---- */

/* One character a byte: T template, r role, c content, k reasoning, t tool calls, o other; message number in front
 * of each run; upper case inside a generation block. */
static void describe(const tq_rendered *r, char *to, size_t room) {
    size_t n = 0, at = 0;
    for (size_t i = 0; i < r->n_marks; i++) {
        tq_mark m = r->marks[i];
        assert_int_equal(m.start, at);
        assert_true(m.end > m.start && m.end <= r->len);
        at = m.end;
        char c = m.origin.message < 0 && m.origin.field == TQ_FIELD_NONE ? '-' : ".rcktos"[m.origin.field];
        n += (size_t)snprintf(to + n, room - n, "%s%c", i ? " " : "", c);
        if (m.origin.message >= 0) n += (size_t)snprintf(to + n, room - n, "%d", m.origin.message);
        if (m.origin.generation) n += (size_t)snprintf(to + n, room - n, "!");
        n += (size_t)snprintf(to + n, room - n, ":%.*s", (int)(m.end - m.start), r->text + m.start);
    }
    assert_int_equal(at, r->len);
}

static void check_marks(const char *source, const char *messages, bool prompt, const char *want) {
    run r = {0};
    char got[4000];
    json_t *m = json(messages);
    render(&r, source, strlen(source), m, NULL, prompt);
    json_decref(m);
    if (r.status != TOQUE_OK) fail_msg("%s", r.err.message);
    describe(&r.out, got, sizeof got);
    assert_string_equal(got, want);
    finish(&r);
}

static const char two[] =
    "[{\"role\":\"user\",\"content\":\" Hi there \"},{\"role\":\"assistant\",\"content\":\"Yo, man\"}]";

static void chatml_marks_roles_and_contents(void **state) {
    (void)state;
    check_marks(chatml, two, true,
                "-:<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
                "<|im_start|> r0:user -:\n c0: Hi there  -:<|im_end|>\n<|im_start|> r1:assistant -:\n c1:Yo, man "
                "-:<|im_end|>\n<|im_start|>assistant\n");
}

static void marks_survive_text_operations(void **state) {
    (void)state;
    check_marks("{{ '[' ~ messages[0].content.strip() | upper ~ ']' }}", two, false, "-:[ c0:HI THERE -:]");
    check_marks("{{ messages[1].content[::-1] }}{{ messages[1].content[1:3] }}x", two, false, "c1:nam ,oYo, -:x");
    check_marks("{{ messages[1].content | replace(',', ';') }}", two, false, "c1:Yo -:; c1: man");
    check_marks("{{ messages[1].content.split(', ') | join('+') }}", two, false, "c1:Yo -:+ c1:man");
    check_marks("{{ '<%s|%5s>' % (messages[1].role, 'x') }}{{ '{}={}'.format(1, messages[0].role) }}", two, false,
                "-:< r1:assistant -:|    x>1= r0:user");
    check_marks("{{ ('a\n' ~ messages[1].content) | indent(2) }}", two, false, "-:a\n   c1:Yo, man");
    check_marks("{{ messages[1].content | center(11) }}{{ messages | map(attribute='role') | join('/') }}", two, false,
                "-:   c1:Yo, man -:   r0:user -:/ r1:assistant");
    check_marks(
        "{% macro m(x) %}<{{ x }}>{% endmacro %}{% set b %}{{ m(messages[0].role) }}!{% endset %}{{ b | title }}", two,
        false, "-:< r0:User -:>!");
    check_marks("{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s + m.role + ',' %}{% endfor %}"
                "{{ ns.s[:-1] }}",
                two, false, "r0:user -:, r1:assistant");
}

static void marks_survive_escaping(void **state) {
    (void)state;
    static const char messages[] =
        "[{\"role\":\"user\",\"content\":\"a\\\"b<\\n\"},{\"role\":\"assistant\",\"content\":[{\"type\":\"text\","
        "\"text\":\"part\"}],\"reasoning\":\"why\",\"tool_calls\":[{\"n\":1}],\"x\":2.5}]";
    check_marks("{{ {'k': messages[0].content} | tojson }}", messages, false, "-:{\"k\":  c0:\"a\\\"b<\\n\" -:}");
    check_marks("{{ messages[0].content | e }}", messages, false, "c0:a&#34;b&lt;\n");
    check_marks("{{ [messages[0].content] }}", messages, false, "-:[ c0:'a\"b<\\n' -:]");
    check_marks("{{ messages[1].content[0].text }}|{{ messages[1].reasoning_content }}{{ messages[1].thinking }}|"
                "{{ messages[1].tool_calls | tojson }}|{{ messages[1].x }}",
                messages, false, "c1:part -:| k1:whywhy -:| t1:[{\"n\": 1}] -:| o1:2.5");
}

static void generation_blocks_are_marked(void **state) {
    (void)state;
    static const char source[] =
        "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}"
        "{{ m.content }}<end>{% endgeneration %}{% else %}U:{{ m.content }}{% endif %}{% endfor %}";
    check_marks(source, two, false, "-:U: c0: Hi there  -:A: c1!:Yo, man -!:<end>");
    run r = {0};
    json_t *m = json(two);
    render(&r, source, strlen(source), m, NULL, false);
    assert_true(r.out.has_generation);
    tq_rendered_clear(&r.out);
    render(&r, chatml, strlen(chatml), m, NULL, false);
    assert_false(r.out.has_generation);
    json_decref(m);
    finish(&r);
}

/* ---- errors ---- */

static void check_error(const char *source, size_t n, toque_status code, const char *part) {
    run r = {0};
    json_t *m = json(two);
    render(&r, source, n, m, NULL, false);
    json_decref(m);
    if (r.status != code || !strstr(r.err.message, part))
        fail_msg("%s: status %s, message %s", source, toque_status_name(r.status), r.err.message);
    finish(&r);
}

static void errors_name_their_place(void **state) {
    (void)state;
#define ERROR(source, code, part) check_error(source, sizeof source - 1, TOQUE_##code, part)
    ERROR("a\n  {{ é }} {{ 1 + }}", EFORMAT, "template T, line 2, column 18: found '}}'");
    ERROR("a\n{% if x %}\nb", EFORMAT, "line 2, column 9: this block is never closed by {% endif %}");
    ERROR("{{ 'abc }}", EFORMAT, "line 1, column 4: the string has no closing '");
    ERROR("{{ (1] }}", EFORMAT, "found ']' where ')' must come first");
    ERROR("{{ x | nosuch }}", EFORMAT, "line 1, column 8: there is no filter or test named 'nosuch'");
    ERROR("x\n{% include 'a' %}", EUNSUPPORTED, "line 2, column 4");
    ERROR("\xff", EFORMAT, "byte ff is not UTF-8");
    ERROR("\n{{ nothing.at }}", EINVAL, "template T, line 2: 'nothing' is undefined");
    ERROR("{{ raise_exception('Roles must alternate') }}", EINVAL, "Roles must alternate");
#undef ERROR
}

static void inputs_of_the_wrong_kind_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"{}", "[1]", "\"x\""};
    run r = {0};
    for (size_t i = 0; i < 3; i++) {
        json_error_t e;
        json_t *m = json_loads(bad[i], JSON_DECODE_ANY, &e);
        render(&r, "x", 1, m, NULL, false);
        assert_int_equal(r.status, TOQUE_EINVAL);
        json_decref(m);
    }
    json_t *m = json("[]"), *vars = json("[]");
    render(&r, "x", 1, m, vars, false);
    assert_int_equal(r.status, TOQUE_EINVAL);
    json_decref(m);
    json_decref(vars);
    finish(&r);
}

/* ---- limits ---- */

static char *repeated(const char *head, const char *unit, size_t times, const char *middle, const char *unit2,
                      const char *tail) {
    size_t n = strlen(head) + strlen(middle) + strlen(tail) + times * (strlen(unit) + strlen(unit2)) + 1;
    char *s = malloc(n), *p = s;
    assert_non_null(s);
    p = stpcpy(p, head);
    for (size_t i = 0; i < times; i++) p = stpcpy(p, unit);
    p = stpcpy(p, middle);
    for (size_t i = 0; i < times; i++) p = stpcpy(p, unit2);
    stpcpy(p, tail);
    return s;
}

static void deep_sources_end_in_an_error(void **state) {
    (void)state;
    static const struct {
        const char *head, *unit, *middle, *unit2, *tail;
    } deep[] = {
        {"{{ ", "(", "1", ")", " }}"},
        {"{{ ", "[", "", "]", " }}"},
        {"{{ ", "-", "1", "", " }}"},
        {"{{ ", "1 if ", "1", " else 1", " }}"},
        {"{{ ", "x[", "1", "]", " }}"},
        {"{{ 1", " + 1", "", "", " }}"},
        {"{{ x", ".a", "", "", " }}"},
        {"{{ 1", "|string", "", "", " }}"},
        {"", "{% if 1 %}", "", "{% endif %}", ""},
        {"{% set ", "(", "a", ")", " = 1 %}"},
        {"{{ 1", " and 1", "", "", " }}"},
        {"{{ {", "1:{", "", "}", "} }}"},
        {"{{ 1 ", "if 1 else 1 ", "", "", " }}"},
        {"{{ 1", "()", "", "", " }}"},
    };
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        char *s = repeated(deep[i].head, deep[i].unit, 20000, deep[i].middle, deep[i].unit2, deep[i].tail);
        run r = {0};
        json_t *m = json("[]");
        render(&r, s, strlen(s), m, NULL, false);
        if (r.status != TOQUE_ELIMIT && r.status != TOQUE_EFORMAT && r.status != TOQUE_EINVAL)
            fail_msg("case %zu: %s", i, toque_status_name(r.status));
        json_decref(m);
        free(s);
        finish(&r);
    }
}

static void hostile_templates_end_in_elimit(void **state) {
    (void)state;
    static const char *const hostile[] = {
        "{{ 'x' * 10 ** 9 }}",
        "{{ range(10 ** 9) }}",
        "{{ [0] * 10 ** 12 }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% macro f(n) %}{% set x %}{% if n %}{% for i in [1] %}{% filter upper %}{{ (f(n) ~ 'a') | trim }}{% "
        "endfilter %}"
        "{% endfor %}{% endif %}{% endset %}{{ x }}{% endmacro %}{{ f(1) }}",
        "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
        "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson "
        "}}",
        "{% set ns = namespace(x=[], y=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}"
        "{% endfor %}{{ ns.x == ns.y }}",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s | replace('', ns.s) %}{% endfor %}",
        "{% for i in range(100000) %}{{ ('x' * 9999) | length }}{% set y = 'aé' * 99999 %}{{ y[5000] }}{% endfor %}",
        "{{ '%99999999s' % 'x' }}",
        "{{ '{:99999999}'.format('x') }}",
        "{{ 'x' | center(10 ** 12) }}",
        "{{ 'x'.ljust(10 ** 12) }}",
        "{{ ('a\n' * 1000) | indent(10 ** 8) }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ 2 ** 64 }}",
        "{{ -9223372036854775807 - 2 }}",
        "{{ [1] | batch(10 ** 15, 'x') | list }}",
    };
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        run r = {.max_bytes = 1 << 22, .max_steps = 3000000};
        json_t *m = json("[]");
        render(&r, hostile[i], strlen(hostile[i]), m, NULL, false);
        if (r.status != TOQUE_ELIMIT) fail_msg("%s: %s %s", hostile[i], toque_status_name(r.status), r.err.message);
        json_decref(m);
        finish(&r);
    }
}

static void piecewise_building_is_linear(void **state) {
    (void)state;
    static const char source[] =
        "{% set ns = namespace(s='', l=[]) %}{% for i in range(50000) %}{% set ns.s = ns.s + 'some text ' %}"
        "{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.s | length }} {{ ns.l | length }} {{ ns.l[49999] }}";
    run r = {.max_steps = 3000000};
    json_t *m = json("[]");
    render(&r, source, sizeof source - 1, m, NULL, false);
    if (r.status != TOQUE_OK) fail_msg("%s", r.err.message);
    assert_string_equal(r.out.text, "500000 50000 49999");
    json_decref(m);
    finish(&r);
    assert_true(atomic_load(&r.mem.peak) < (size_t)64 << 20);
}

/* Appending in place must never show through another value that shares the store. */
static void shared_stores_stay_apart(void **state) {
    (void)state;
    check_marks("{% set a = 'x' ~ messages[0].role %}{% set b = a + '1' %}{% set c = a + '2' %}{% set d = a + a %}"
                "{{ a }} {{ b }} {{ c }} {{ d }}{% set l = [1] + [2] %}{% set m = l + [3] %}{% set n = l + [4] %}"
                "{{ l }}{{ m }}{{ n }}{{ l + l }}{{ (m[:2] + [9])[2] }}{{ m }}",
                two, false,
                "-:x r0:user -: x r0:user -:1 x r0:user -:2 x r0:user -:x r0:user -:[1, 2][1, 2, 3][1, 2, 4]"
                "[1, 2, 1, 2]9[1, 2, 3]");
}

/* ---- faults ---- */

static void every_allocation_may_fail(void **state) {
    (void)state;
    static const char source[] =
        "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{% endmacro %}{% for x in messages %}{{ m(x.content) | upper "
        "}}"
        "{% set q %}{{ x | tojson(indent=2) }}{% endset %}{{ q[2:9] ~ q.split('\"') | sort | join(',') }}{% generation "
        "%}"
        "{{ '%s' % x.role }}{{ '{}'.format(x) }}{% endgeneration %}{% endfor %}{{ 'y' * 90000 }}{{ nothing }}";
    json_t *m = json(two);
    unsigned long long at = 1;
    for (; at < 2000; at++) {
        run r = {.mem.fail_at = at};
        render(&r, source, sizeof source - 1, m, NULL, true);
        toque_status status = r.status;
        if (status != TOQUE_OK) assert_int_equal(status, TOQUE_ENOMEM);
        finish(&r);
        if (status == TOQUE_OK) break;
    }
    json_decref(m);
    assert_true(at > 5 && at < 2000);
}

int main(void) {
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snippets_agree_with_jinja2),
        cmocka_unit_test(chatml_marks_roles_and_contents),
        cmocka_unit_test(marks_survive_text_operations),
        cmocka_unit_test(marks_survive_escaping),
        cmocka_unit_test(generation_blocks_are_marked),
        cmocka_unit_test(errors_name_their_place),
        cmocka_unit_test(inputs_of_the_wrong_kind_are_refused),
        cmocka_unit_test(deep_sources_end_in_an_error),
        cmocka_unit_test(hostile_templates_end_in_elimit),
        cmocka_unit_test(piecewise_building_is_linear),
        cmocka_unit_test(shared_stores_stay_apart),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
