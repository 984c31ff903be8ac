"""Expected renderings of chat templates, made by transformers' own code.

    python templates.py TEMPLATES_FOLDER OUT.jsonl [DUMP_FOLDER]

tests/text/data/template_expected.jsonl is made from llama.cpp's models/templates, template_own.jsonl from
tests/text/data/templates.

The first line of OUT holds the cases (messages, tools, variables), every other line a template and, for each case in
order, the FNV-1a hash of the rendering or "error". DUMP_FOLDER gets the renderings themselves, for comparing by eye.
The clock stands still at NOW, in UTC. tests/text/template_cases.c reads the file.
"""

import datetime
import glob
import json
import os
import sys

os.environ["TZ"] = "UTC"
from transformers.utils import chat_template_utils as ctu  # noqa: E402

NOW = 1721900000


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=tz)


ctu.datetime = Clock

U, A, S = "user", "assistant", "system"


def msg(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, ident="abcdefghi"):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place. <&>",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city's name, e.g. \"São Paulo\""},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]},
                "where": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
            },
            "required": ["city"],
        },
        "return": {"type": "string"},
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Finds pages.",
        "parameters": {"type": "object", "properties": {"q": {"type": ["string", "null"], "nullable": True}}},
    },
}

CONVERSATIONS = {
    "user": [msg(U, "Hello!")],
    "system": [msg(S, "Be brief."), msg(U, "  Who are you?\n")],
    "turns": [msg(U, "1+1?"), msg(A, "2"), msg(U, "And 2+2?"), msg(A, " 4 \n"), msg(U, "Thanks")],
    "system_turns": [msg(S, " Sys "), msg(U, "a"), msg(A, "b"), msg(U, "c"), msg(A, "d")],
    "unicode": [msg(S, "Grüße 🙂"), msg(U, "日本語 \u00a0é\u0301 \"quoted\" 'x' \\n <tag>&amp;"), msg(A, "ß\u2028ok")],
    "long_lines": [msg(U, "line 1\n\n  line 2\r\n\tline 3   "), msg(A, "```c\nint x;\n```\n")],
    "parts": [msg(U, [{"type": "text", "text": "What is"}, {"type": "text", "text": " this?"}]), msg(A, "A thing.")],
    "image": [msg(U, [{"type": "image"}, {"type": "text", "text": "Describe."}])],
    "think_inline": [msg(U, "Why?"), msg(A, "<think>\nBecause.\n</think>\n\nSo."), msg(U, "Really?")],
    "think_field": [msg(U, "Why?"), msg(A, "So.", reasoning_content="Because."), msg(U, "Really?"),
                    msg(A, "Yes.", reasoning_content="\nI said so.\n")],
    "tool_call": [msg(U, "Weather in Paris?"),
                  msg(A, None, tool_calls=[call("get_weather", {"city": "Paris", "days": [1, 2.5, None, True]})])],
    "tool_text": [msg(U, "Weather in Paris?"),
                  msg(A, "", tool_calls=[call("get_weather", '{"city": "Paris"}')]),
                  msg("tool", '{"temp": 21.5}', name="get_weather", tool_call_id="abcdefghi"),
                  msg(A, "It is 21.5 degrees.")],
    "tools_many": [msg(S, "Use tools."), msg(U, "Weather in Paris and Rome?"),
                   msg(A, "I look.", tool_calls=[call("get_weather", {"city": "Paris", "unit": "celsius"}, "call00001"),
                                                 call("search", {"q": "Röm's \"sky\"", "n": 1e-7}, "call00002")],
                       reasoning_content="Two places."),
                   msg("tool", "sunny", name="get_weather", tool_call_id="call00001"),
                   msg("tool", [{"type": "text", "text": "rain"}], name="search", tool_call_id="call00002"),
                   msg(A, "Sunny and rain."), msg(U, "Thanks.")],
    "odd_roles": [msg(U, "a"), msg(U, "b"), msg("critic", "c")],
    "empty": [msg(U, "")],
    "developer": [msg("developer", "Answer in verse."), msg(U, "Hi")],
}
VARS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
MORE_VARS = {"think_off": {"enable_thinking": False}, "date": {"date_string": "26 Jul 2024", "enable_thinking": True}}


def cases():
    for name, messages in CONVERSATIONS.items():
        for tools in (None, [WEATHER, SEARCH]):
            for prompt in (False, True):
                yield {"name": name, "messages": messages, "tools": tools, "vars": VARS, "prompt": prompt}
    for name, extra in MORE_VARS.items():
        for conversation in ("user", "think_field"):
            yield {"name": name, "messages": CONVERSATIONS[conversation], "tools": None, "vars": {**VARS, **extra},
                   "prompt": True}


def fnv(data):
    h = 14695981039346656037
    for b in data:
        h = (h ^ b) * 1099511628211 & (1 << 64) - 1
    return f"{h:016x}"


def render(source, case):
    rendered, _ = ctu.render_jinja_template(
        [case["messages"]], tools=case["tools"], chat_template=source, add_generation_prompt=case["prompt"], **case["vars"])
    return rendered[0]


def main():
    folder, out = sys.argv[1:3]
    dump = sys.argv[3] if len(sys.argv) > 3 else None
    every = list(cases())
    with open(out, "w") as f:
        f.write(json.dumps({"now": NOW, "cases": every}, ensure_ascii=False, separators=(",", ":")) + "\n")
        for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
            name, expected = os.path.basename(path), []
            source = open(path, encoding="utf-8", newline="").read()
            for i, case in enumerate(every):
                try:
                    text = render(source, case)
                    expected.append(fnv(text.encode()))
                except Exception as e:  # any failure of the template is the expected result
                    text = f"ERROR {type(e).__name__}: {e}"
                    expected.append("error")
                if dump:
                    with open(os.path.join(dump, f"{name}.{i}"), "w", newline="") as d:
                        d.write(text)
            f.write(json.dumps({"template": name, "expected": expected}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
