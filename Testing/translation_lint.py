"""Finds in the sources what no translator ever sees: texts for the user not wrapped in `_()`, or wrapped wrongly.

Slicer's translations are made of what Qt's lupdate reads in the sources; it takes literal texts in `_()` alone, knows
neither f-strings nor the escapes of Unicode, and leaves the name `_` to the translation.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from MedAELib.errors import MedAEError

# What is given to these, or set as one of these, is read by the user.
_SHOWN_BY = {
    "say", "confirm", "setText", "setToolTip", "setHtml", "setTitle", "setWindowTitle", "SetTitle", "SetXAxisTitle",
    "SetYAxisTitle", "SetDescription", "getExistingDirectory", "createProgressDialog",
    *(error.__name__ for error in MedAEError.__subclasses__()),
}  # fmt: skip
_SHOWN_AS = {"text", "toolTip", "title", "windowTitle", "labelText", "noneDisplay", "remark", "stage"}
_WORD = re.compile(r"[^\W\d_]{3,}")
_MARKUP = re.compile(r"<[^>]*>|&\w+;")
_GAP = "\0"  # stands for what an f-string inserts
_KNOWN_ESCAPES = re.compile(r"""\\[^abfnrtv'"\\\n]""")


def lint_source(source: str, name: str = "<source>") -> list[str]:
    """One "file:line: what is wrong" for each finding, in the order of the lines."""
    tree = ast.parse(source, name)
    silent = _documentation_and_log(tree)
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        found += [(shown.lineno, "shown") for shown in _shown(node) if _WORD.search(_bare(shown))]
        if _is_text(node) and id(node) not in silent and _is_sentence(_bare(node)):
            found.append((node.lineno, "shown"))
        found += [(line, why) for line, why in _misused(node, source)]
    told = {"shown": "the user reads this text: wrap it in _()"}
    return [f"{name}:{line}: {told.get(why, why)}" for line, why in sorted(set(found))]


def _misused(node: ast.AST, source: str) -> Iterator[tuple[int, str]]:
    """What is wrong with the use of `_` itself."""
    if isinstance(node, ast.JoinedStr):
        inner = (each for value in node.values for each in ast.walk(value))
        yield from ((each.lineno, "_() stands in an f-string") for each in inner if _is_translation(each))
    elif _is_translation(node):
        if not (len(node.args) == 1 and isinstance(node.args[0], ast.Constant)):
            yield node.lineno, "_() takes one literal text"
        elif _KNOWN_ESCAPES.search(ast.get_source_segment(source, node.args[0]) or ""):
            yield node.lineno, "write the character itself: lupdate does not know this escape"
    elif isinstance(node, ast.Name) and node.id == "_" and not isinstance(node.ctx, ast.Load):
        yield node.lineno, "_ is the translation: give the variable another name"
    elif isinstance(node, ast.arg) and node.arg == "_":
        yield node.lineno, "_ is the translation: give the argument another name"


def _shown(node: ast.AST) -> Iterator[ast.expr]:
    """The literal texts that a call or an assignment shows to the user."""
    if isinstance(node, ast.Call):
        if _called(node) in _SHOWN_BY:
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                yield from _texts(argument)
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            for place, value in pairs:
                if (place.attr if isinstance(place, ast.Attribute) else getattr(place, "id", "")) in _SHOWN_AS:
                    yield from _texts(value)


def _texts(value: ast.expr) -> Iterator[ast.expr]:
    """The literal texts that an expression can become, as far as that is seen without running it."""
    if _is_text(value):
        yield value
    elif isinstance(value, ast.IfExp):
        yield from (*_texts(value.body), *_texts(value.orelse))
    elif isinstance(value, ast.BoolOp):
        yield from (text for part in value.values for text in _texts(part))
    elif isinstance(value, ast.BinOp):
        yield from (*_texts(value.left), *_texts(value.right))
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "format":
        yield from _texts(value.func.value)


def _documentation_and_log(tree: ast.AST) -> set[int]:
    """The texts that no user reads, by their id: docstrings, the log, and those that are wrapped."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.add(id(node.value))
        elif isinstance(node, ast.Call) and (_is_translation(node) or _called(node) == "translate" or _logs(node)):
            found |= {id(inner) for inner in ast.walk(node)}
        elif isinstance(node, ast.JoinedStr):
            found |= {id(part) for part in node.values}  # its pieces are no texts of their own
    return found


def _logs(node: ast.Call) -> bool:
    function = node.func
    return isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "logging"


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def _is_translation(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _bare(node: ast.expr) -> str:
    """A literal text without markup and without what is inserted into it."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = "".join(part.value if isinstance(part, ast.Constant) else _GAP for part in parts)
    return _MARKUP.sub("", text).strip()


def _is_sentence(text: str) -> bool:
    return text.endswith((".", "?")) and len(text.split()) >= 3 and bool(_WORD.search(text))
