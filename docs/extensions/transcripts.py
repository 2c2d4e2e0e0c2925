"""How what is no program is coloured: transcripts of a shell, logs, reports, errors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any, ClassVar, Final

from pygments.lexer import RegexLexer, bygroups
from pygments.lexers.shell import BashLexer, BashSessionLexer
from pygments.token import Comment, Generic, Keyword, Name, Number, Text
from sphinx.application import Sphinx

PLAIN: Final = ("report", "leak", "error", "scenario", "answer", "mistake", "failing")
"""What our pages show beside logs: each has words of its own."""


class Console(BashSessionLexer):
    """Commands, with what they say below a line that begins with `$`; without any, commands only.
    A line that begins with `#` speaks to the reader."""

    name = "console"
    aliases: ClassVar = ["console"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, Any, str]]:
        """Its tokens."""
        lines = text.splitlines(keepends=True)
        if not any(line.lstrip().startswith("$ ") for line in lines):
            yield from BashLexer(**self.options).get_tokens_unprocessed(text)
            return
        remarks = list(takewhile(lambda line: line.startswith("#"), lines))
        yield 0, Comment, "".join(remarks)
        begin = sum(map(len, remarks))
        for at, token, value in super().get_tokens_unprocessed(text[begin:]):
            yield begin + at, token, value


class Raftlog(RegexLexer):
    """`00:00:00.201403 [0] becomes Candidate (currentTerm=1)`."""

    name = "raftlog"
    aliases: ClassVar = ["raftlog"]
    tokens: ClassVar = {
        "root": [
            (r"^(\d\d:\d\d:\d\d\.\d+)( )(\[\w+\])", bygroups(Comment, Text, Name.Attribute)),
            (r"\b(Follower|PreCandidate|Candidate|Leader)\b", Keyword),
            (r"\b(AppendEntries|Request(Pre)?Vote)(Reply)?\b", Name.Function),
            (r"\b\d+\b", Number),
            (r"\.\.\. because [^\n]*", Generic.Emph),
            (r"\w+|\s+|.", Text),
        ]
    }


class Plain(RegexLexer):
    """Words."""

    tokens: ClassVar = {"root": [(r"[^\n]+\n?|\n", Text)]}


def setup(app: Sphinx) -> dict[str, object]:
    """The kinds of blocks that our pages have beyond what is usual."""
    app.add_lexer("console", Console)
    app.add_lexer("raftlog", Raftlog)
    for name in PLAIN:
        app.add_lexer(name, Plain)
    return {"parallel_read_safe": True}
