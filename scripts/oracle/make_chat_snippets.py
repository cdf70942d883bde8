#!/usr/bin/env python3
"""Writes tests/golden/chat_snippets.json: small templates, one Jinja habit of published chat templates each, rendered by transformers."""

import json
from pathlib import Path

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Wet & \"dry\" <b>it's</b>",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 3},
    "scale": {"type": "number", "default": 1e-05}, "flag": {"type": ["boolean", "null"], "default": True}}, "required": ["city"]}}}]
USER = {"role": "user", "content": " Hello\nworld "}
BOT = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHi 🦙 é", "reasoning_content": None}
CALL = {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1, "b": [1.5, None, True], "ü": "ß"}}}]}
PARTS = {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two"}]}
CHAT = [{"role": "system", "content": "Be brief."}, USER, BOT, CALL, {"role": "tool", "content": "{\"t\": 3}", "name": "f"}, PARTS]

# A pair names a template that this library renders differently, and why.
SNIPPETS = [
    "{{ messages[0].role }}|{{ messages[0]['role'] }}|{{ messages[-1].role }}|{{ messages|length }}",
    "{% for m in messages %}\n    {{ m.role }}\n{% endfor %}\n",
    "{%- for m in messages -%}\n  {{- m.role -}}\n{%- endfor -%}\n",
    "{% for m in messages if m.role != 'tool' %}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }},{% endfor %}",
    "{% for m in messages[1:] %}{{ m.role }} {% endfor %}{% for m in messages[::-1] %}{{ m.role }} {% endfor %}",
    "{% for m in messages[:2] + messages[-1:] %}{{ m.role }} {% endfor %}",
    "{% for m in messages %}{% if m.role == 'tool' %}{% break %}{% endif %}{% if loop.index is even %}{% continue %}{% endif %}{{ m.role }} {% endfor %}",
    "{% for m in messages %}{% if loop.previtem is defined %}{{ loop.previtem.role }}<{% endif %}{{ m.role }}{% if loop.nextitem is defined %}>{{ loop.nextitem.role }}{% endif %};{% endfor %}",
    "{% set ns = namespace(found=false, n=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.found = true %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ ns.found }} {{ ns.n }}",
    "{{ None }} {{ true }} {{ false }} {{ 1 }} {{ 1.0 }} {{ 1.5e300 }} {{ 1/3 }} {{ 7//2 }} {{ 7%3 }} {{ 2**10 }} {{ 7/7 }}",
    "{{ [1, 'a', None, true, 1.0] }} {{ {'a': 1, 'b': [2]} }} {{ (1, 'x') }} {{ (1,) }} {{ [] }} {{ {} }}",
    "{{ 'it\\'s' ~ 1 ~ none ~ true ~ [1,'b'] }}",
    "{{ ['it\\'s', 'say \"x\"', 'a\\\\b', 'tab\\t', 'é🦙'] }}",
    "{{ messages[1].content.strip() }}|{{ messages[1].content.lstrip() }}|{{ messages[1].content.rstrip('\\n ') }}|{{ messages[1].content | trim }}",
    "{{ messages[2].content.split('</think>')[-1].lstrip('\\n') }}|{{ messages[2].content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a-b-c'.split('-', 1) }} {{ 'x\\ny\\n'.splitlines() }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x','bc')) }} {{ 'abc'.find('c') }} {{ 'abc'.upper() }} {{ 'aXb'.lower() }} {{ 'the end'.title() }} {{ 'abc'.capitalize() }} {{ 'aXbXc'.replace('X', '-') }}",
    "{{ 'abc'[1] }} {{ 'abc'[-1] }} {{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ 'b' in 'abc' }} {{ 'z' not in 'abc' }}",
    "{% if 'tool_calls' in messages[3] %}yes{% endif %} {{ 'content' in messages[3] }} {{ messages[3].content is defined }} {{ messages[3].get('content') }} {{ messages[3].get('content', 'none') }} {{ messages[3]['x'] is undefined }}",
    "{{ messages[2].reasoning_content is none }} {{ messages[1].content is string }} {{ messages[5].content is string }} {{ messages[5].content is iterable }} {{ messages[0] is mapping }} {{ messages is sequence }} {{ 3 is number }} {{ true is boolean }} {{ true is number }} {{ 3 is integer }} {{ 3.0 is float }} {{ x is not defined }}",
    "{% for part in messages[5].content %}{% if part.type == 'text' %}{{ part.text }}{% elif part['type'] == 'image' %}<img>{% endif %}{% endfor %}",
    "{{ tools | tojson }}",
    "{{ tools | tojson(indent=4) }}",
    "{{ tools | tojson(indent=2, sort_keys=true) }}",
    "{{ tools[0] | tojson(separators=(',', ':')) }}",
    "{{ {'é': '🦙\\u0007\\x7f </script>&'} | tojson }} {{ {'é': '🦙'} | tojson(ensure_ascii=True) }} {{ [] | tojson(indent=2) }} {{ {'a': []} | tojson(indent=2) }}",
    "{{ messages[3].tool_calls[0].function.arguments | tojson }} {{ messages[3].tool_calls[0].function.arguments }}",
    "{{ [1e16, 1e15, 0.0001, 0.00001, -0.0, 123456789012345678] | tojson }}",
    "{% for k, v in messages[3].tool_calls[0].function.arguments.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in {'b': 1, 'a': 2} | items %}{{ k }}{{ v }}{% endfor %}",
    "{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %} {{ {'b': 1, 'a': 2}.keys() | list }} {{ {'b': 1}.values() | list }}",
    "{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | list }}",
    "{{ [3,1,2] | sort }} {{ ['b','A'] | sort }} {{ [1,2,3] | sum }} {{ [1,2,3] | first }} {{ [1,2] | last }} {{ [3,1] | max }} {{ [3,1] | min }} {{ [1,1,2] | unique | list }} {{ [1,2,3] | reverse | list }}",
    "{{ 'a b' | replace(' ', '_') }} {{ 'abc' | upper }} {{ 'ab cd' | capitalize }} {{ 'x' | default('y') }} {{ x | default('y') }} {{ '' | default('y', true) }} {{ 'ab' | length }} {{ 3.7 | int }} {{ '5' | int + 1 }} {{ 3 | float }} {{ 1 | string + 'a' }} {{ 'a\\nb' | indent(4) }} {{ 'a\\nb' | indent(2, true) }}",
    "{% macro show(x, y='d', z=none) %}[{{ x }}{{ y }}{{ z }}]{% endmacro %}{{ show(1) }}{{ show(1, z='q') }}{{ show('a', 'b') }}",
    "{% macro walk(x) -%}\n{%- if x is mapping -%}\n{ {%- for k, v in x | dictsort -%} {{ k }}: {{ walk(v) }}{%- if not loop.last %}, {% endif -%}{%- endfor -%} }\n{%- elif x is string -%}\"{{ x }}\"{%- elif x is iterable -%}[{% for i in x %}{{ walk(i) }}{{ ',' if not loop.last }}{% endfor %}]{%- else -%}{{ x }}{%- endif -%}\n{%- endmacro %}{{ walk(tools[0]) }}",
    "{% set content %}\nblock {{ 1 + 1 }}\n{% endset %}[{{ content }}]",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set x = 'p' if false else 'q' %}{{ x }}{{ 'only' if false }}",
    "{% if not tools is defined %}no{% endif %}{% if tools is not none and tools %}tools{% endif %}{{ documents is none }}{{ documents }}",
    "{% generation %}\n  inside\n{% endgeneration %}\nafter {%- generation -%} tight {%- endgeneration %} end",
    "    {% if true %}  x  {% endif %}  \n  {# note #}\n  y {# n #} z\n\n",
    "{{- '' }}\n\n  text\n{%+ if true %} plus {% endif +%}\n",
    "{% raw %}{{ not }} {% generic %}{% endraw %}",
    "{{ bos_token }}{{ eos_token }}{{ unk_token is defined }}",
    "{{ raise_exception('roles must alternate: ' ~ messages[0].role) }}",
    "{{ messages[0].content.nope.deeper }}",
    "{{ 'x' + 1 }}",
    "{{ range(3) | list }} {{ range(1, 10, 4) | list }} {% for i in range(2) %}{{ i }}{% endfor %} {{ dict(a=1) }}",
    ("{{ '%s is %d' % ('a', 3) }}", "minijinja has no % for strings"),
    "{{ '%s' | format('x') }} {{ 'a{}b{}'.format(1, 'z') }}",
    "{% filter upper %}abc{% endfilter %} {% with q = 5 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ not true }} {{ true and 'x' }} {{ '' or 'y' }} {{ none or 0 }} {{ [] == [] }} {{ true == 1 }}",
    "{{ messages[1].content | trim | length }} {{ (messages | first)['role'] }}",
    ("{{ messages | last | attr('role') }}", "minijinja's attr also finds keys"),
    "{{ 'a' * 3 }} {{ [0] * 2 }} {{ '=' * 5 }} {{ -3 % 5 }} {{ -7 // 2 }} {{ 5 - -2 }} {{ 2 ** -1 }}",
    "{{ 'ẞtraße' | upper }} {{ '<a>' | e }} {{ '<a>' | escape }} {{ '<b>' | safe }} {{ 'a<b>c' | striptags }}",
    "{{ [1,2,3,4,5] | batch(2) | list }} {{ [1,2,3] | slice(2) | list }} {{ {'x': {'y': 1}}['x']['y'] }} {{ [[1,2],[3]] | sum(start=[]) }}",
    "{% for group in messages | groupby('role') %}{{ group.grouper }}:{{ group.list | length }} {% endfor %}",
    ("{{ messages[1].content | truncate(8) }}", "minijinja's truncate wants its length by name"),
    "{{ messages[1].content | trim | replace('\\n', ' ') }} {{ 3.14159 | round(2) }} {{ 2.5 | round }} {{ -3 | abs }}",
    "{{ loop is defined }}{% for a in [1,2] %}{% for b in [3] %}{{ loop.index }}{% endfor %}{{ loop.revindex }}{{ loop.cycle('x','y') }}{% else %}none{% endfor %}{% for a in [] %}{% else %}empty{% endfor %}",
    "{% call(x) wrap() %}<{{ x }}>{% endcall %}{% macro wrap() %}{{ caller(1) }}{% endmacro %}",
    "{% macro wrap() %}{{ caller(1) }}{% endmacro %}{% call(x) wrap() %}<{{ x }}>{% endcall %}",
    "{%- set loop_messages = messages %}{%- for message in loop_messages %}{%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + (message['content'] | string | trim) + '<|eot_id|>' %}{%- if loop.index0 == 0 %}{%- set content = bos_token + content %}{%- endif %}{{- content }}{%- endfor %}",
    "{{ messages[4].content is string and messages[4].content.startswith('{') }} {{ 'A'.isupper() }} {{ '12'.isdigit() }} {{ ' '.isspace() }} {{ 'ab'.count('a') }} {{ ', '.join(['x','y']) }} {{ 'x'.center(5) if false else '' }}",
    "{{ add_generation_prompt }} {% if add_generation_prompt %}<|assistant|>{% endif %} {{ enable_thinking }} {{ enable_thinking is defined and enable_thinking is false }}",
    "{{ \"double \\\"q\\\" \\u00e9 \\n\" }}{{ 'a' 'b' }}",
    "{{ 1e22 }} {{ 1.5e-7 }} {{ 1e15 }} {{ 0.1 + 0.2 }} {{ -1.0 }}",
    ("{{ [1e22] }} {{ 'x' ~ 1e22 }}", "only floats printed by themselves follow Python's notation"),
    "{{ 10 | string | length }} {{ [1, [2, 3]] | string }} {{ none | string }} {{ true | string }} {{ 1e3 }} {{ 100000000000000000000 }} {{ 1_000 }}",
    "{{ x }}[{{ x.y is defined }}]",
    "{{ x.y }}",
    "{{ messages[99] is defined }} {{ messages[99] }}|",
    "{{ messages[0].role | length > 3 }} {{ ('a' in ['a']) | tojson }} {{ {} | tojson }} {{ 'a' | tojson }} {{ none | tojson }}",
    "{% set m = messages[0] %}{% set m = dict(m, **{'role': 'x'}) %}{{ m.role }}",
    "{{ messages | map('upper') | list if false }}{{ ['a', 'b'] | map('upper') | join }}{{ [1, 0, none] | select | list }}{{ [1, 2, 3] | reject('odd') | list }}",
]

def main():
    rows = []
    for source in SNIPPETS:
        source, differs = source if isinstance(source, tuple) else (source, None)
        row = {"template": source, **({"differs": differs} if differs else {})}
        try:
            rendered, _ = render_jinja_template(conversations=[CHAT], tools=TOOLS, chat_template=source, add_generation_prompt=True,
                bos_token="<s>", eos_token="</s>", enable_thinking=False)
            row["rendered"] = rendered[0]
        except jinja2.exceptions.TemplateError as e:
            row["error"] = str(e)
        except Exception as e:  # Python's own, whose words are nobody's contract
            row["error"] = ""
            row["python"] = type(e).__name__
        rows.append(row)
    text = json.dumps({"made_by": f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}", "messages": CHAT,
        "variables": {"tools": TOOLS, "enable_thinking": False}, "special": {"bos_token": "<s>", "eos_token": "</s>"}, "rows": rows},
        ensure_ascii=False, indent=1)
    (Path(__file__).resolve().parents[2] / "tests/golden/chat_snippets.json").write_text(text + "\n", encoding="utf-8")

main()
