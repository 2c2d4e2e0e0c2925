"""Writes the handles of structures: `python -m tests.handles --update`.

A handle has the commands and queries of its class, with the same signatures. They stand in the
class's own file, below a line that says so, and `tests/replicated/test_handles.py` compares them
with what this would write.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent / "trioraft"
MARK = "# -- handles: written by `python -m tests.handles --update` "
HEAD = MARK + "-" * (100 - len(MARK)) + "\n"
FILES = (
    "machines/structures.py",
    *(
        f"coordination/{name}.py"
        for name in ("barrier", "election", "lock", "queue", "rate_limiter", "semaphore")
    ),
)


def methods_of(cls: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    """Commands and queries, in the order in which they stand there."""
    for node in cls.body:
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if isinstance(called, ast.Name) and called.id in ("command", "query"):
                    yield node


def bases_of(cls: ast.ClassDef) -> tuple[str, str, str]:
    """The bases of both handles, and the type variables."""
    handles, variables = "Handle", ""
    for base in cls.bases:
        shown = ast.unparse(base)
        if shown.startswith("Generic["):
            variables = shown.removeprefix("Generic")
    for node in cls.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_handle_base":
            handles = ast.unparse(node.value)
    return handles, f"Blocking{handles}", variables


def written(cls: ast.ClassDef, module: ast.Module, *, blocking: bool) -> str:
    """One of the two handles."""
    base, blocking_base, variables = bases_of(cls)
    kind = "Blocking" if blocking else ""
    generic = f", Generic{variables}" if variables else ""
    used = blocking_base if blocking else base
    where = "threads" if blocking else "Trio and asyncio"
    is_own = any(isinstance(other, ast.ClassDef) and other.name == used for other in module.body)
    of = variables if is_own else f"[{cls.name}{variables}]"
    lines = [
        f"class {kind}{cls.name}Handle({used}{of}{generic}):",
        f'    """A `{cls.name}` on other machines, for {where}."""',
    ]
    inherited = {
        function.name
        for other in module.body
        if isinstance(other, ast.ClassDef) and other.name == used
        for function in other.body
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for method in methods_of(cls):
        if method.name in inherited:
            continue
        arguments = ast.unparse(method.args)
        assert method.returns is not None
        given = [argument.arg for argument in method.args.args[1:]]
        given += [f"{argument.arg}={argument.arg}" for argument in method.args.kwonlyargs]
        call = f"self({', '.join([f'{cls.name}.{method.name}', *given])})"
        lines += [
            "",
            f"    {'' if blocking else 'async '}def {method.name}({arguments}) -> "
            f"{ast.unparse(method.returns)}:",
            f'        """`{cls.name}.{method.name}`."""',
            f"        return {call if blocking else f'await {call}'}",
        ]
    return "\n".join(lines) + "\n"


def handles_of(source: str) -> str:
    """What stands below the line in this file."""
    text = ""
    names = []
    module = ast.parse(source.partition(MARK)[0])
    for cls in module.body:
        if isinstance(cls, ast.ClassDef) and any(
            "WithHandles[" in ast.unparse(base) for base in cls.bases
        ):
            text += "\n\n" + written(cls, module, blocking=False)
            text += "\n\n" + written(cls, module, blocking=True)
            names.append(cls.name)
    text += "\n\n"
    for name in names:
        text += f"{name}._handle_type = {name}Handle\n"
        text += f"{name}._blocking_handle_type = Blocking{name}Handle\n"
    return text


def main() -> None:
    """Write, or say what would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the files")
    is_update = parser.parse_args().update
    for name in FILES:
        path = ROOT / name
        source = path.read_text(encoding="utf-8")
        own = source.partition(MARK)[0].rstrip() + "\n\n\n"
        text = own + HEAD + handles_of(source)
        if is_update:
            path.write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text.partition(MARK)[2])


if __name__ == "__main__":
    main()
