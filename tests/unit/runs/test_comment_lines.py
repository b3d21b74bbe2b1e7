"""Which lines of a comment are asks, judged by another reader of Markdown."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.markdown_reader import shown_by_github
from tests.stopwatch import least_processor_s
from webhook_server.runs.comment_lines import MOST_LINES, ask_lines, holds_an_ask

steady = settings(
    deadline=None,
    derandomize=True,
    max_examples=examples(1000),  # a document of eight lines takes 0.5 ms to judge
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


def asks(body: str) -> list[str]:
    return list(ask_lines(body))


COUNTED = {
    "alone": "/cynthus run",
    "below a sentence": "Please.\n/cynthus run",
    "below a sad sentence": "It is broken :(\n/cynthus run",
    "below a link": "See [the docs](https://example.org).\n/cynthus run",
    "below whole code": "Set `gpu`, and ``a ` b``:\n/cynthus run",
    "up to three spaces": "   /cynthus run",
    "a tab after the word": "/cynthus\trun",
    "Windows line ends": "One.\r\n/cynthus run\r\nTwo.",
    "old line ends": "One.\r/cynthus run\rTwo.",
    "below a fence": "```\ncode\n```\n/cynthus run",
    "below a fence of tildes that holds another": "~~~\n```\n~~~\n/cynthus run",
    "below a fence in a list": "- a\n  ```\n  code\n  ```\n\n/cynthus run",
    "below a fence that a list item's end ended": "- ```\n  code\n\n/cynthus run",
    "below indented code": "    code ` <b\n\n/cynthus run",
    "below a quote and a blank line": "> it said `x`\n\n/cynthus run",
    "below a quote with code": "> `a <b`\n\n/cynthus run",
    "below a quoted reply of ours": "> <!-- cynthus: 7 -->\n> started\n\n/cynthus run",
    "below a comment on one line": "<!-- from a template -->\n/cynthus run",
    "below a comment on many": "<!--\nplease fill in\n\n-->\n/cynthus run",
    "below a folded section": "<details><summary>Log</summary>\n\nx\n\n</details>\n\n/cynthus run",
    "below a folded section on one line": "<details>a</details>\n\n/cynthus run",
    "below HTML that hides nothing": '<img src="a.png">\n\n<p align="center">x</p>\n\n/cynthus run',
    "below a key": "Press <kbd>F5</kbd>.\n/cynthus run",
    "below a type with a parameter": "`List<T>` it is.\n/cynthus run",
    "below tags that are named as code": "The `<details>` tag and `<!--`.\n/cynthus run",
    "below what was struck out": "~~No.~~ About ~5 minutes.\n/cynthus run",
    "below a comparison": "1 < 2 and 3 > 2\n/cynthus run",
    "below raw HTML": "<pre>\na\n\nb\n</pre>\n/cynthus run",
    "in a list item's second line": "- please\n  /cynthus run",
    "below a table": "| a |\n| - |\n| b |\n\n/cynthus run",
    "below a heading": "# Hello\n/cynthus run",
}


@pytest.mark.parametrize("body", COUNTED.values(), ids=COUNTED.keys())
def test_a_line_counts(body: str) -> None:
    found = asks(body)
    assert [line.split() for line in found] == [["/cynthus", "run"]]


IGNORED = {
    "in the middle of a line": "please /cynthus run",
    "in a list": "- /cynthus run",
    "as the beginning of a word": "/cynthusrun",
    "in upper case": "/Cynthus run",
    "four spaces, which make code": "    /cynthus run",
    "a tab, which makes code": "\t/cynthus run",
    "fenced": "```\n/cynthus run\n```",
    "fenced with a language": "```sh\n/cynthus run\n```",
    "fenced and never ended": "```\n/cynthus run",
    "fenced by tildes": "~~~\n/cynthus run\n~~~",
    "fenced by more": "````\n```\n/cynthus run\n````",
    "fenced, the first end being too far right": "```\n    ```\n/cynthus run\n```",
    "fenced in a list": "- ```\n  /cynthus run\n  ```",
    "fenced after a list's fence ended early": "- ```\n  x\ny\n```\n/cynthus run\n```",
    "fenced in a numbered list": "1. ```\n   /cynthus run\n   ```",
    "fenced after what looks like a list": "foo\n2. ```\n   x\n   ```\n/cynthus run\n```",
    "fenced after a list that a lazy line kept open": "- a\nb\n  ```\ncode\n```\n/cynthus run\n```",
    "fenced after a quote's fence": "> ```\nx\n```\n/cynthus run\n```",
    "in code over several lines": "`a\n/cynthus run\nb`",
    "in code behind an escaped backtick": "\\` a `b\n/cynthus run\nc`",
    "in code behind a tag": '<a href="`">`\n/cynthus run\n`',
    "quoted": "> /cynthus run",
    "lazily quoted": "> it said\n/cynthus run",
    "lazily quoted in a list": "- > it said\n/cynthus run",
    "in a comment": "<!--\n/cynthus run\n-->",
    "in a comment after a blank line": "<!--\n\n/cynthus run\n\n-->",
    "in a comment in the middle of a line": "x <!-- y\n/cynthus run\n-->",
    "in a comment inside HTML": "<div>\n<!--\n\n/cynthus run\n\n-->\n</div>",
    "in a comment inside a list": "- <!--\n/cynthus run\n-->",
    "below what may hide a fence": "x <!--\n\n```\n-->\n/cynthus run\n```",
    "in a comment that begins again": "<!-- a --> <!--\n/cynthus run\n-->",
    "folded": "<details>\n\n/cynthus run\n\n</details>",
    "folded in capitals": "<DETAILS>\n\n/cynthus run\n\n</DETAILS>",
    "folded behind an end that is code": "<details>\n\n`</details>`\n\n/cynthus run\n\n</details>",
    "folded behind an end that is escaped": "<details>\n\n\\</details>\n\n/cynthus run",
    "folded behind an end in a title": '<details>\n\n[x](y "</details>")\n\n/cynthus run',
    "folded twice": "<details>\n<details>\n</details>\n\n/cynthus run",
    "in raw HTML": "<pre>\n\n/cynthus run\n\n</pre>",
    "in preformatted text in HTML": "<div><pre>\n\n/cynthus run\n\n</pre></div>",
    "in a block of HTML": "<div>\n/cynthus run\n</div>",
    "in a code element": "a <code>\n/cynthus run\n</code>",
    "struck out by signs": "~~a\n/cynthus run\nb~~",
    "struck out": "<del>\n\n/cynthus run\n\n</del>",
    "in an attribute": '<a title="\n/cynthus run\n">x</a>',
    "in an attribute over paragraphs": '<div title="a>\n\n/cynthus run\n\n">',
    "in a link's title": '[x](y "\n/cynthus run\n")',
    "in the title of a link's definition": '[x]: y "\n/cynthus run\n"',
    "in a picture's description": "![a\n/cynthus run\n](b)",
    "in a footnote": "[^1]: a\n/cynthus run",
    "a slash of full width": "\uff0fcynthus run",
    "a space of no width within": "/cyn\u200bthus run",
    "a space of no width before": "\u200b/cynthus run",
    "a letter that looks alike": "/\u0441ynthus run",
    "a space that does not break": "/cynthus\u00a0run",
    "a mark that turns the direction": "\u202e/cynthus run",
    "a byte order mark": "\ufeff/cynthus run",
    "behind what Python takes for a line end": "x\u2028/cynthus run",
    "behind a form feed": "x\x0c/cynthus run",
    "far below anything written by hand": "\n" * MOST_LINES + "/cynthus run",
}


@pytest.mark.case("C6", "C7")
@pytest.mark.parametrize("body", IGNORED.values(), ids=IGNORED.keys())
def test_c6_c7_what_github_does_not_show_as_plain_text_is_ignored(body: str) -> None:
    assert asks(body) == []


def test_every_line_below_what_hid_one_counts_again() -> None:
    body = "```\n/cynthus run\n```\n/cynthus help\n> /cynthus why\n\n/cynthus status\n"
    assert asks(body) == ["/cynthus help", "/cynthus status"]


# ── another reader's judgement ──────────────────────────────────────────────────────────────────

PARTS = [
    *("", "", "", "text", "/cynthus", "/cynthus", "/cynthus", " /cynthus", "   /cynthus"),
    *(
        "```",
        "````",
        "~~~",
        " ```",
        "  ```",
        "   ```",
        "    ```",
        "```py",
        "`",
        "a `b",
        "``",
        "\\`",
    ),
    *("- ```", "- a", "  a", "1. a", "2. ```", "1. ```", "   a", "- - ```", "    a", "* > a"),
    *("> a", "> ```", ">", "> <details>", "> <!--", "- > ```"),
    *("<!--", "-->", "<!-- a -->", "a <!--", "  <!--", "- <!--", "<!-->", "--> <!--"),
    *("<details>", "</details>", "  </details>", "`</details>`", "<details open>", "a <details>"),
    *("<pre>", "</pre>", "<pre>a</pre>", "a <pre>", "<script>", "</script>", "<div>", "</div>"),
    *("<div><pre>", "</pre></div>", "<b>", "<a", '<a title="', '">', "<code>", "</code>"),
    *('[x](y "', '[x]: y "', '"', '")', "[x]:", "[", "](y)", "---", "***", "# a", "<?", "?>"),
    *("~~", "~~a", "a~~", "~~~~", "| a |", "| - |", "<kbd>", "</kbd>", "<s>", "</s>", "<!x>"),
]


@pytest.mark.case("C6")
@steady
@given(st.lists(st.sampled_from(PARTS), max_size=9))
@example(["> ```", "a", "```", "/cynthus", "```"])
@example(["- a", "text", "  ```", "a", "```", "/cynthus"])
@example(["<div>", "a <!--", "", "/cynthus", "-->"])
@example(["  a", "    ```", " /cynthus", "2. ```"])
@example(["<pre>", "<pre>a</pre>", "/cynthus"])
@example(["<pre>", "<!--", "</pre>", "/cynthus", "-->"])
@example(["> <script>", "", "a</script>", "", "/cynthus"])
@example(["a <!--]<<pre>--->", "/cynthus"])
@example(["~~~~~a", "/cynthus", "a~~"])
@example(["\\<!--<kbd>-->", "/cynthus"])
@example(["> <b>", "> `a <b", "", "/cynthus"])
@example(["a", "    - ```", "/cynthus", "a```"])
def test_no_line_counts_that_github_does_not_show_as_text(parts: list[str]) -> None:
    marked = [
        part + f" n{n}." if part.endswith("/cynthus") else part for n, part in enumerate(parts)
    ]
    body = "\n".join(marked)
    shown = shown_by_github(body)
    assert [line for line in asks(body) if line.strip() not in shown] == []


@pytest.mark.case("C7")
@steady
@given(st.text(alphabet="`~<>!-/ \n\r\t[]()\"'\\>ab1.*", max_size=60))
def test_no_line_counts_behind_any_signs(signs: str) -> None:
    body = f"{signs}\n/cynthus n1.\n{signs}"
    if asks(body):
        assert "/cynthus n1." in shown_by_github(body)


HEAVY = {
    "blank lines": "\n" * 65_000,
    "backticks": "`\n" * 32_000,
    "one line of backticks": "`" * 65_000,
    "growing runs of backticks": "\n".join(
        " ".join("`" * n for n in range(1, 43)) for _ in range(65)
    ),
    "pairs of backticks": ("x ``` ` " * 124 + "\n") * 65,
    "tags that never end": "<a " * 21_000,
    "attributes that never end": ("<a '" * 240 + "\n") * 65,
    "comments that never end": "<!--" * 16_000,
    "comments": ("<!--->" * 160 + "\n") * 65,
    "lists in lists": ("1. " * 330 + "\n") * 65,
    "quotes in quotes": (">" * 990 + "\n") * 65,
    "spaces": (" " * 990 + "\n") * 65,
    "asks": "/cynthus run\n" * 5_000,
    "asks with fences": "/cynthus run\n```\n```\n" * 3_000,
    "details": "<details>" * 7_000,
    "old line ends": "/\r" * 32_000,
}


@pytest.mark.case("C8")
@pytest.mark.parametrize("text", HEAVY.values(), ids=HEAVY.keys())
def test_c8_a_comment_of_65_kb_is_read_in_less_than_50_ms(text: str) -> None:
    body = text[:65_500] + "\n/cynthus run"
    assert least_processor_s(lambda: asks(body)) < 0.05


def test_a_body_without_an_ask_is_known_at_once() -> None:
    assert not holds_an_ask("Please /cynthus run")
    assert holds_an_ask("> a\n /cynthus")
