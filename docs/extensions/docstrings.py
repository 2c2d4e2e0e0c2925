"""Our docstrings' Markdown, as the reStructuredText that Sphinx reads; rules: docs/style.md.

Rules of this file: names in backticks become links where they are public, or belong to the class at
hand, and stay code elsewhere; so nothing here can lead nowhere.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from typing import Final

from sphinx.application import Sphinx

from docs.extensions.public_names import PublicName, is_ours, shown_as

_FENCE: Final = re.compile(r"^(\s*)```(\w*)$")
_CODE: Final = re.compile(r"(?<!`)`([^`\n]+)`(?!`)(?=(\w?))")
_ITEM: Final = re.compile(r"^\s*(\* |- |\d+\. )")
_RAISES: Final = re.compile(r"^Raises(?: \((.+)\):| ?: (.+))$")
_RAISED: Final = re.compile(r"^    [\w.]+(, [\w.]+)*: ")
_BEFORE_NAPOLEON, _AFTER_NAPOLEON = 400, 600
_STAR: Final = re.compile(r"(^\s*\* |\*{1,2}(?=\S)[^*]+?(?<=\S)\*{1,2})|\*")
"""What begins an item, or is emphasised; any other star is a star."""
_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def translate(lines: list[str], owner: str | None) -> list[str]:
    """A docstring's lines, translated.

    Args:
        lines: of the docstring, without the indentation that all of them share.
        owner: the full public name of the class at hand, if there is one.
    """
    told: list[str] = []
    fence: str | None = None
    for line in _without_sentences_in_raises(lines):
        if fence is not None:
            if _FENCE.match(line):
                fence = None
                told.append("")
            else:
                told.append(f"   {line}" if line.strip() else "")
        elif found := _FENCE.match(line):
            fence = found[1]
            told += ["", f"{fence}.. code-block:: {found[2] or 'text'}", ""]
        else:
            told += _line(line, told, owner)
    return told


def _line(line: str, before: list[str], owner: str | None) -> list[str]:
    """A line of text, after what came before it."""
    told = []
    for heading in ("Fault", "Remedy"):
        if line.startswith(f"{heading}: "):
            told.append("")
            line = f"**{heading}:** {line.removeprefix(f'{heading}: ')}"
    if _ITEM.match(line) and before and before[-1].strip() and not _ITEM.match(before[-1]):
        indent, above = (len(text) - len(text.lstrip()) for text in (line, before[-1]))
        if above <= indent:
            told.append("")
    parts = []
    end = 0
    for found in _CODE.finditer(line):
        parts += [_escaped(line[end : found.start()]), _linked(found[1], owner)]
        parts += ["\\ "] if found[2] else []
        end = found.end()
    return [*told, "".join([*parts, _escaped(line[end:])])]


def _escaped(words: str) -> str:
    """Without what reStructuredText would take for markup, but for emphasis."""
    return _STAR.sub(lambda found: found[0] if found[1] else r"\*", words)


def _without_sentences_in_raises(lines: list[str]) -> list[str]:
    """`Raises:` may hold a sentence beside its entries, "As `propose`."; a field cannot, so the
    sentence becomes a paragraph after them."""
    kept: list[str] = []
    spoken: list[str] = []
    is_raises = is_spoken = False
    for line in [*lines, "end"]:
        found = _RAISES.match(line)
        if found:
            line = "Raises:"
            said = found[1] or found[2]
            spoken.append(f"{said[0].upper()}{said[1:]}".rstrip(".") + ".")
        if line and not line[0].isspace():
            if is_raises and spoken:
                while kept and not kept[-1].strip():
                    kept.pop()
                if kept and kept[-1] == "Raises:":
                    kept.pop()
                kept += ["", f"**Raises:** {' '.join(spoken)}", ""]
                spoken = []
            is_raises, is_spoken = line == "Raises:", False
        elif is_raises and line.startswith("    ") and not line.startswith("     "):
            is_spoken = _RAISED.match(line) is None
        if is_spoken and line.strip():
            spoken.append(line.strip())
        else:
            kept.append(line)
    return kept[:-1]


@cache
def _linked(code: str, owner: str | None) -> str:
    target = _public(code.removesuffix("()"), owner)
    return f"``{code}``" if target is None else f":py:obj:`{code} <{target}>`"


def _public(code: str, owner: str | None) -> str | None:
    """The full public name of what stands in backticks; None if it is none."""
    if not _NAME.fullmatch(code):
        return None
    tops, names = _names()
    if owner in names and (place := _place(names[owner].value, code)):
        return place
    if code in names:
        return code
    head, _, member = code.partition(".")
    top = tops.get(head)
    if top is None or not member:
        return None if top is None else top.full
    return _place(top.value, member)


def _place(value: object, member: str) -> str | None:
    """The full name under which the reference shows a class's member; None if it shows none."""
    if not inspect.isclass(value) or member.startswith("_"):
        return None
    shown = None
    for base in value.__mro__:
        shown = _shown_classes().get(id(base), shown)
        if not is_ours(base):
            continue
        if member in vars(base) or member in vars(base).get("__annotations__", {}):
            return f"{shown}.{member}"
    return None


@cache
def _shown_classes() -> dict[int, str]:
    return {id(name.value): name.full for name in _names()[1].values()}


@cache
def _names() -> tuple[dict[str, PublicName], dict[str, PublicName]]:
    """What is shown, by its name alone and in full; the first of several of one name counts."""
    shown = shown_as().values()
    return {name.name: name for name in reversed(shown)}, {name.full: name for name in shown}


_FIELDS: Final = frozenset({"attribute", "data", "property"})


def _process(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    owner = name if what in {"class", "exception"} else name.rpartition(".")[0]
    lines[:] = translate(lines, owner if owner in _names()[1] else None)
    if what in _FIELDS:  # napoleon would take what stands before a colon for its type
        app.env.temp_data["trioraft_field"] = list(lines)
        lines.clear()


def _give_back(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    if what in _FIELDS:
        lines[:] = app.env.temp_data.pop("trioraft_field") or ()


def setup(app: Sphinx) -> dict[str, object]:
    """Around napoleon, which makes fields out of sections."""
    app.connect("autodoc-process-docstring", _process, priority=_BEFORE_NAPOLEON)
    app.connect("autodoc-process-docstring", _give_back, priority=_AFTER_NAPOLEON)
    return {"parallel_read_safe": True}
