"""Somebody else's text, harmless to a terminal: the one place that says what that is.

What is printable (`str.isprintable`) stays as it is. Control characters, escape sequences, marks
that turn the direction of writing, invisible characters and lone surrogates become what Python
would write for them.
"""

from __future__ import annotations


def escaped(text: str, *, keep: str = "") -> str:
    r"""The text, with `\x1b`, `\n` or `\u202e` in place of what is not printable.

    Args:
        text: of anybody's.
        keep: characters that may stay, such as the ends of lines where there are several.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def json_escaped(text: str) -> str:
    """A JSON text, with JSON's own escapes in place of what is not printable: it means the same."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
