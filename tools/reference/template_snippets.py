"""Small templates, each with jinja2's rendering as transformers sets it up (null: an error).

    python template_snippets.py > tests/text/data/template_snippets.jsonl
"""

import json
import sys

from templates import ctu

MESSAGES = [{"role": "user", "content": "Hi é🙂 there"}, {"role": "assistant", "content": "Yo"}]
VARS = {"n": 7, "f": 2.5, "s": "  Ab cD\t", "u": "Grüße 日本 🙂", "lst": [3, 1, 2], "d": {"b": 1, "a": [1, {"x": None}]},
        "t": True, "words": ["pear", "Apple", "fig", "apple"], "rows": [{"n": "x", "v": 2, "o": {"k": 1}}, {"n": "y", "v": 1},
        {"n": "X", "v": 3}], "html": "<a href=\"x\">'&'</a>", "tree": [{"v": 1, "c": [{"v": 2, "c": []}]}, {"v": 3, "c": []}]}

EXPRESSIONS = r"""
1 + 2 * 3 - 4 / 2
7 // 2, -7 // 2, 7 % 3, -7 % 3, 7.5 // 2, -7.5 % 2, 2 ** 10, 2 ** -1, -2 ** 2, 2 ** 3 ** 2
1 / 3, 1e16, 1e15, 123456789012345680.0, 1e-5, 0.0001, 1.0, -0.0, 1e22, 5e-324, 1.7976931348623157e308, 0.1 + 0.2
1 == 1.0, 1 == true, 'a' == 'a', [1] == [1.0], (1,) == [1], none == none, x == y
1 < 2 < 3, 1 < 3 < 2, 'a' < 'B', [1, 2] < [1, 3], 1 < 'a'
true and 0, '' or 'x', not [], not none and 1, 0 or none or []
n if n > 5 else 'small'
n if false
'x' if false else ('y' if none else 'z')
1 ~ none ~ true ~ 1.5 ~ [1, 'a'] ~ undefinedthing
'a' + 1
'a' * 3, 2 * 'ab', [1] * 2, 'a' * -1
[1] + [2, 3], (1,) + (2,)
lst + [4], lst[0], lst[-1], lst[5], lst[1:], lst[::-1], lst[-2:], lst[:10], lst[2:0:-1], lst[::2]
u[0], u[-1], u[6:8], u[::-1], u[6:], u[:-2], u[3:1], u[-100:100], u[::3]
u|length, u.upper(), u.lower(), u.find('日'), u.count('ü'), u.split(), u.title()
d.b, d['a'][1].x, d.zz, d.get('zz'), d.get('zz', 5), d.get('b')
d.zz.yy
d.items(), d.keys()|list, d.values()|list, d.items()|list
d, [d, 'it\'s', "q\"", 'both\'"'], (1,), (), {}, {'a': none, 1: 2.0}
'a\nb\t\\\x41\u00e9\q', 'multi' 'part'
"\n" in "a\nb", 'b' in d, 3 in lst, 'zz' not in d, 1 in 'a'
s.strip(), s.lstrip(), s.rstrip(), 'xxaxx'.strip('x'), 'abc'.lstrip('ab'), s|trim, 'xax'|trim('x')
'a,b,,c'.split(','), 'a b  c'.split(), 'a b c'.split(' ', 1), 'a,b,c'.rsplit(',', 1), ' a b '.rsplit(none, 1), ''.split(), ''.split(',')
'a\nb\r\nc\n'.splitlines(), 'a\n'.splitlines(true)
'hello'.startswith('he'), 'hello'.startswith(('x', 'h')), 'hello'.endswith('lo'), 'hello'.startswith('l', 2), 'hello'.endswith('el', 0, 3)
'hello'.replace('l', 'L'), 'hello'.replace('l', 'L', 1), 'ab'.replace('', '-'), 'hello'|replace('l', 'LL')
'hello world'.title(), 'hello'.capitalize(), "they're bill's".title(), "they're-bill's (ok)"|title, 'ABC'|lower, 'aBc'.swapcase(), 'hELLO wORLD'|capitalize
'-'.join(['a', 'b']), '-'.join([1]), [1, 2]|join('-'), rows|join(',', attribute='n'), 'abc'|join('.')
'abc'.find('c'), 'abc'.find('z'), 'abcabc'.rfind('b'), 'abc'.index('b'), 'aaa'.count('a'), 'aaa'.count('aa'), 'ab'.count('')
'abc'.index('z')
'x{}y{}'.format(1, 'a'), '{0}{1}{0}'.format('a', 'b'), '{a}-{b}'.format(a=1, b=none), '{{}}'.format(), '{:>5}|{:<5}|{:^5}'.format('a', 'b', 'c'), '{:05d} {:.2f} {:,}'.format(42, 3.14159, 1234567), '{!r}'.format('x'), '{:x}'.format(255)
'{} {}'.format(1)
'%s %d %05.1f %x %r %%' % ('a', 3, 2.345, 255, 'q'), '%(a)s' % {'a': 1}, '%s' % 'x', '%-5s|%5s' % ('a', 'b'), '%s' % [1]
'%s %s' % 'a'
'%s, %s!'|format('Hi', 'you')
'prefix-x'.removeprefix('prefix-'), 'x.py'.removesuffix('.py'), 'a=b=c'.partition('='), 'a=b=c'.rpartition('=')
'12'.isdigit(), '1a'.isdigit(), ''.isdigit(), 'ab'.isalpha(), 'a1'.isalnum(), ' '.isspace(), 'AB'.isupper(), 'ab1'.islower(), '²'.isdigit(), '²'.isdecimal()
'7'.zfill(3), '-7'.zfill(4), 'a'.center(6), 'a'.ljust(3, '.'), 'a'.rjust(3), 'ab'|center(7)
lst|sort, lst|sort(reverse=true), words|sort, words|sort(case_sensitive=true), rows|sort(attribute='v')|map(attribute='n')|list, rows|sort(attribute='n,v')|map(attribute='v')|list
words|unique|list, words|unique(true)|list, [1, 1.0, true, 2]|unique|list
words|min, words|max, lst|min, lst|max, lst|sum, rows|sum(attribute='v'), []|sum, lst|sum(start=10), rows|max(attribute='v')
words|first, words|last, 'abc'|first, []|first, d|first, lst|reverse|list, 'abc'|reverse, lst|list, 'abc'|list
rows|map(attribute='o.k')|list, rows|map(attribute='o.k', default='-')|list
rows|map(attribute='n')|map('upper')|join(' '), lst|map('string')|list, words|map('replace', 'p', 'P')|list
lst|select('odd')|list, lst|reject('odd')|list, lst|select('gt', 1)|list, [0, 1, '']|select|list, lst|select('divisibleby', 3)|list
rows|selectattr('n', 'equalto', 'x')|list|length, rows|selectattr('o')|map(attribute='n')|list, rows|rejectattr('v', 'in', [1, 2])|map(attribute='n')|list, rows|selectattr('o', 'defined')|list|length
rows|groupby('n')|list|length, rows|groupby('n')|map('first')|list, rows|groupby('v')|map(attribute=0)|list
d|dictsort, {'b': 1, 'A': 2, 'c': 0}|dictsort, {'b': 1, 'A': 2, 'c': 0}|dictsort(true), {'b': 1, 'A': 2, 'c': 0}|dictsort(false, 'value', true)
d|items|list, undefinedthing|items|list
[1, 2, 3, 4, 5]|batch(2)|list, [1, 2, 3, 4, 5]|batch(2, 0)|list, [1, 2, 3, 4, 5]|slice(2)|list, [1, 2, 3, 4, 5]|slice(3, 'x')|list
d|tojson, d|tojson(indent=2), u|tojson, u|tojson(true), [1, 2.0, none, true, 'a"\n/<>']|tojson, {}|tojson(indent=4), [[], {}]|tojson(indent=1), {'b': 1, 'a': 2}|tojson(sort_keys=true), d|tojson(separators=(',', ':')), {1: 2, none: 3, true: 4}|tojson, '\x7f\x1f'|tojson
undefinedthing|tojson
d|string, d|string|length, 3|string + '!', none|string
'42'|int, '42.7'|int, 'x'|int, 'x'|int(5), '0x1f'|int(0, 16), ' 12 '|int, 3.9|int, -3.9|int, none|int, true|int, '1_000'|int, '3.5'|float, 'x'|float, '1e3'|float, 'inf'|float|int
-3|abs, 2.5|round, 3.5|round, 2.675|round(2), 42.55|round(1, 'floor'), 42.55|round(1, 'ceil'), 42|round, 1234|round(-2), 2.5|round|int
x|default('q'), ''|default('q'), ''|default('q', true), none|d('q'), d.zz|d(0), x|default
html|escape, html|e, html|safe, html|safe + '<b>', '<b>' + html|safe, (html|e)|e, html|forceescape, ('<'|safe) ~ '<'
'a\nb\n\nc'|indent, 'a\nb'|indent(2, true), 'a\n\nb'|indent('> ', first=true, blank=true), ''|indent(2, true), 'a\n'|indent
'foo bar baz qux'|truncate(9), 'foo bar baz qux'|truncate(9, true), 'foo bar baz qux'|truncate(11), 'foo bar baz qux'|truncate(11, false, '...', 0), 'foobarbazqux12345'|truncate(9)
'two words, ok-then'|wordcount, u|wordcount, 'a b/c?&=ü'|urlencode, {'a b': 1, 'c': '/'}|urlencode
n is odd, n is even, n is divisibleby 7, n is divisibleby(2), 3 is lt 4, 3 is eq(3), 3 is sameas 3, 'a' is in 'abc', 'a' is in ['b']
none is none, x is defined, n is defined, x is undefined, d.zz is defined, 'a' is string, 1 is number, 1.0 is float, 1 is float, 1 is integer, true is integer, true is number, true is boolean, 1 is boolean, true is true, 1 is true, false is false
d is mapping, lst is mapping, lst is sequence, 'a' is sequence, d is sequence, 1 is sequence, d.items() is sequence, lst is iterable, 'a' is iterable, 1 is iterable, x is iterable, none is iterable, range is callable, d is callable, 'tojson' is filter, 'nope' is filter, 'odd' is test, 'ab' is lower, 'AB' is upper
n is not none, not n is none, n is not defined or true
range(3), range(3)|list, range(1, 7, 2)|list, range(5, 0, -2)|list, range(0)|list, range(3)[1], range(10)[2:5], 2 in range(3)
range(100001)|length
range(0, 10, 0)
dict(a=1, b=2), dict([('a', 1)]), dict(d, c=3)|length, namespace(a=1).a
[1, 2, 3].append(4)
lst.pop()
d.update({})
lst.index(1), lst.count(1), [1, 1].count(1), d.copy()
undefinedthing, undefinedthing|length, undefinedthing|upper, undefinedthing|list, undefinedthing == undefinedother, undefinedthing + 1
undefinedthing.x
undefinedthing()
undefinedthing[0]
undefinedthing < 1
none + 1
none.x
none|length
1|length
lst|map('upper')|list
{'a': 1}.a, {'items': 1}['items'], {'items': 1}.items is callable, {'x': 1}['items'] is callable, {'keys': 5}.get('keys')
(1, 2, 3)[1], (1, 2)[0:1], 'abc'[1], 'abc'['x'], lst['x'], d[[1]], 5[0]
lst[undefinedthing:]
1 if 'x' else 2, (1, 2) if t else 3
'%d' % 3.99, '%5.2f' % 2, '%+d' % 5, '%e' % 12345.678, '%g' % 0.0001, '%c' % 'x', '%o' % 8, '%#x' % 255, '%.3s' % 'abcdef', '%5s' % none
messages[0].content[3:6], messages|length, messages[-1]['role'], messages[0].content|upper
'é' < 'z', 'a' in u, u|urlencode, u|center(20), 'ÀÉ'.lower(), 'ß'|lower, 'ǆ'.title()
lst|first + lst|last, -lst[0], +n, --n, -f, not not n, -'a'
10 % 3.5, -10 // 3.0, 2 ** 0.5, 7 / 7
x is eq y, 1 is ne 2, [] is eq [], 'b' is gt 'a', 'b' is ge 'b', 2 is le 1, 2 is lessthan 3
cycler('a', 'b').next(), joiner(',')(), loop
f.is_integer(), 2.0.is_integer()
3 is divisibleby 0
1 // 0
1.5 % 0
'abc'.nope()
strftime_now('%Y-%m-%d %H:%M:%S %j %B'), strftime_now('%d %b %Y'), strftime_now('')
raise_exception('no ' ~ n)
n|nope
n is nope
"{}".format(d), '{0[b]} {0.b}'.format(d), '{x[0]}'.format(x=lst), '{:10}|{:10}|'.format('a', 1), '{:+.1f} {:%} {:e}'.format(1.25, 0.5, 12345.0), '{:*^9}'.format('mid')
'a' 'b' ~ 1 + 2, 1 + 2 ~ 3 + 4, 'a' ~ 'b' * 2, (1 ~ 2)|int + 1
words|join(', ')|title, [[1, 2], [3]]|map('sum')|list, [[2, 1]]|map('sort')|map('join', '-')|list
[3, 'a']|sort
'x' not in ['x'], not 'x' in ['x'], 1 in [1] in [[1]]
true + 1, true * 3, -true, [true, 1, 1.0]|unique|list
"""

STATEMENTS = [
    "{% for x in lst %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}"
    "{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }} {% endfor %}",
    "{% for x in lst if x > 1 %}{{ loop.length }}{{ x }}{% else %}none{% endfor %}",
    "{% for x in [] %}a{% else %}empty{{ x }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in [(1,)] %}{{ a }}{% endfor %}",
    "{% for c in u %}[{{ c }}]{% endfor %}",
    "{% for x in lst %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in lst %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}!",
    "{% for x in lst %}{% for y in lst %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }}{% endfor %}|{% endfor %}",
    "{% for x in lst %}{% set n = x %}{{ n }}{% endfor %}{{ n }}",
    "{% set ns = namespace(a=0) %}{% for x in lst %}{% set ns.a = ns.a + x %}{% endfor %}{{ ns.a }}{{ ns }}",
    "{% for x in lst %}{{ y }}{% set y = x %}{{ y }}{% endfor %}",
    "{% for n in tree recursive %}{{ n.v }}{{ loop.depth }}{% if n.c %}({{ loop(n.c) }}){% endif %}{% endfor %}",
    "{% for n in lst %}{{ loop(n) }}{% endfor %}",
    "{% if n > 5 %}a{% elif n > 3 %}b{% else %}c{% endif %}{% if false %}x{% elif t %}y{% endif %}{% if none %}z{% endif %}",
    "{% if t %}{% set q = 1 %}{% endif %}{{ q }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, %}{{ c }}",
    "{% set x %}block {{ n }}{% set inner = 3 %}{% endset %}{{ x }}|{{ inner }}",
    "{% set x | upper | replace('B', 'q') %}abc{% endset %}{{ x }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}",
    "{% filter indent(2)|upper %}a\nb{% endfilter %}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, c=5) }}|{{ m(b=3, a=4) }}|{{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, z=4) }}{{ m(*lst, **{'y': 1}) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in {{ n }}{% endcall %}",
    "{% macro m() %}[{{ caller(3) }}]{% endmacro %}{% call(x) m() %}in {{ x }}{% endcall %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(5) }}",
    "{% set v = 1 %}{% macro m() %}{{ v }}{% set v = 2 %}{{ v }}{% endmacro %}{{ m() }}{{ v }}{% set v = 3 %}{{ m() }}",
    "{% for x in [1] %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{{ m }}{% macro m(a) %}{% endmacro %}{{ m }}{{ m is callable }}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% set n = 0 %}{% endwith %}{{ a }}{{ n }}",
    "{% raw %}{{ x }}{% if %}{% endraw %}!",
    "a {%- raw -%}  {{ x }}  {%- endraw -%}  b",
    "{# comment #}a{#- c -#} b {#- d #}\nc",
    "  {% if t %}\n  a\n  {% endif %}\nb\n",
    "x {% if t %} a {% endif %} y",
    "x\n    {%- if t -%}\n   a\n  {%- endif -%}\n y",
    "x\n  {%+ if t +%}\n a{% endif +%}\nb",
    "  {{ n }}\n  {{- n -}}  \n z {{+ n }}",
    "a\n  {# c #}\n  {% set q = 1 %}  \nb\t{% set r = 2 %}\nc",
    "a\r\nb\rc\r\n{{ '1\r\n2' }}\r\n",
    "line\n\n",
    "{% print n, f %}{% generation %}g{{ n }}{% set zz = 1 %}{% endgeneration %}{{ zz }}",
    "{{ 'a' if n == 7 }}{{ 'b' if n == 8 }}",
    "{{ {'a': {'b': 1}}.a.b }}{{ {'a': {}} }}{{ [[1], {}] }}",
    "{{ n|nope if false else 1 }}{% if false %}{{ n|nope }}{% endif %}",
    "{% if true %}{{ n|nope }}{% endif %}",
    "{% set joined = joiner('; ') %}{% for x in lst %}{{ joined() }}{{ x }}{% endfor %}",
    "{% set c = cycler('odd', 'even') %}{% for x in lst %}{{ c.next() }} {% endfor %}{{ c.reset() }}{{ c.next() }}",
    "{% set d.x = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{{ ns._x }}{{ lst.__class__ }}", "{{ lst.__class__.x }}",
    "{% break %}", "{% if %}", "{{ }}", "{{ 1 2 }}", "{% endif %}", "{% for x in %}{% endfor %}", "{% unknown %}", "{{ 'a }}", "{{ (1 }}",
    "{% if t %}", "{{ 1", "{% raw %}", "{# x", "{{ a.1b }}", "{{ lst.0 }}{{ rows.0.n }}", "{{ 1.2.3 }}", "{{ 0x1F + 0b11 + 0o7 + 1_000 }}",
    "{{ 007 }}", "{{ x is is y }}", "{% set 1 = 2 %}", "{% macro m(a=1, b) %}{% endmacro %}", "{{ f(a=1, 2) }}", "{{ a $ b }}", "{{ not }}",
    "{% do 1 %}", "{% call 1 %}{% endcall %}", "{% for loop in lst %}{% endfor %}{{ lst", "{% macro m(x) %}{% break %}{% endmacro %}",
    "{%- for m in messages -%}\n{{ m.role }}: {{ m.content | trim }}\n{%- endfor %}", "{%set x=1%}{{x}}{%if x%}y{%endif%}",
    "{{ '%s' | format(n) }} {{ \"a\\\"b\" }} {{ 'it''s' }}", "{{ [1,2,] }}{{ (1,2,) }}{{ {'a':1,} }}{{ (n) }}{{ () }}",
    "{% if n is defined and n is not none and n is number %}ok{% endif %}{% if 'a' is in 'abc' and not x is defined %}ok{% endif %}",
]


def main():
    out = sys.stdout
    out.write(json.dumps({"messages": MESSAGES, "vars": VARS}, ensure_ascii=False) + "\n")
    lines = EXPRESSIONS.strip().split("\n")
    # a tuple's parts are also tried alone, so that one error does not hide the others
    sources = ["{{ " + line + " }}" for line in lines] + STATEMENTS
    for line in lines:
        parts = _top_level_parts(line)
        if len(parts) > 1:
            sources += ["{{ " + part + " }}" for part in parts]
    for source in dict.fromkeys(sources):
        try:
            text = ctu.render_jinja_template([MESSAGES], chat_template=source, **VARS)[0][0]
        except Exception:  # whatever went wrong, an error is expected
            text = None
        out.write(json.dumps([source, text], ensure_ascii=False, separators=(",", ":")) + "\n")


def _top_level_parts(line):
    parts, depth, quote, start, i = [], 0, None, 0, 0
    while i < len(line):
        c = line[i]
        if quote:
            if c == "\\":
                i += 1
            elif c == quote:
                quote = None
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and not depth:
            parts.append(line[start:i].strip())
            start = i + 1
        i += 1
    return parts + [line[start:].strip()]


if __name__ == "__main__":
    main()
