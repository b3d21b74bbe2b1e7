"""Read from the syntax tree of a file what it imports, and how much it needs it. Pure."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import."""

    name: str  # google.cloud.storage: with the name that `from` takes out of a package
    line: int
    level: int = 0  # the dots before a relative import
    optional: bool = False  # the file does without
    instead_of: tuple[str, ...] = ()  # taken only where none of these can be had


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a file imports."""

    imports: tuple[Import, ...] = ()
    fault: str | None = None  # why it could not be read
    fault_line: int = 1


def scan(code: str | bytes, python: tuple[int, int]) -> Scan:
    """Return what Python code imports when it runs on Linux under a Python such as (3, 11).

    Never raises: what is no Python is a fault with its line.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `"\\d"` in the user's code is not our business
            tree = ast.parse(code)
            reader = _Reader(python, thorough=_computes_imports(code))
            reader.visit(tree)
    except SyntaxError as error:
        return Scan(fault=error.msg or "no Python", fault_line=error.lineno or 1)
    except (ValueError, RecursionError, MemoryError, UnicodeError) as error:
        return Scan(fault=str(error) or "nested too deeply")
    return Scan(imports=tuple(reader.found))


def _computes_imports(code: str | bytes) -> bool:
    """Say whether code may import, or ask for modules, within expressions too."""
    words = ("import_module", "__import__", "find_spec")
    if isinstance(code, str):
        return any(word in code for word in words)
    return any(word.encode() in code for word in words)


class _Reader(ast.NodeVisitor):
    """Walk a tree, knowing inside which guards it is."""

    def __init__(self, python: tuple[int, int], *, thorough: bool) -> None:
        self._thorough = thorough
        self.found: list[Import] = []
        self._python = python
        self._optional = False
        self._instead_of: tuple[str, ...] = ()
        self._flags: set[str] = set()  # names such as HAS_TORCH = find_spec("torch") is not None

    def generic_visit(self, node: ast.AST) -> None:
        """Visit what is below; expressions, four fifths of a tree, only where they matter."""
        for below in ast.iter_child_nodes(node):
            if self._thorough or not isinstance(below, ast.expr | ast.expr_context):
                self.visit(below)

    def _add(self, name: str, line: int, level: int = 0) -> None:
        self.found.append(
            Import(
                name=name,
                line=line,
                level=level,
                optional=self._optional,
                instead_of=self._instead_of,
            )
        )

    def _walk(self, body: Sequence[ast.stmt], *, optional: bool = False) -> None:
        before = self._optional
        self._optional = before or optional
        for statement in body:
            self.visit(statement)
        self._optional = before

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        prefix = node.module or ""
        for alias in node.names:
            inner = "" if alias.name == "*" else alias.name
            self._add(".".join(part for part in (prefix, inner) if part), node.lineno, node.level)

    def visit_Call(self, node: ast.Call) -> None:
        called = _dotted(node.func).rpartition(".")[2]
        first = node.args[0] if node.args else None
        if called in {"import_module", "__import__"} and isinstance(first, ast.Constant):
            name = first.value
            if isinstance(name, str) and name and not name.startswith("."):
                self._add(name, node.lineno)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if _asks_for_spec(node.value):
            self._flags |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        guards = any(
            isinstance(item.context_expr, ast.Call)
            and _dotted(item.context_expr.func).rpartition(".")[2] == "suppress"
            and any(_is_import_error(arg) for arg in item.context_expr.args)
            for item in node.items
        )
        self._walk(node.body, optional=guards)

    def visit_Try(self, node: ast.Try) -> None:
        catching = [one for one in node.handlers if _catches(one, node.body)]
        guards = bool(catching) and not any(_gives_up(one.body) for one in catching)
        self._walk(node.body, optional=guards)
        before = self._instead_of
        if catching:
            self._instead_of = (*before, *_names(node.body))
        for handler in node.handlers:
            self._walk(handler.body)
        self._instead_of = before
        self._walk(node.orelse, optional=guards)
        self._walk(node.finalbody)

    def visit_TryStar(self, node: ast.TryStar) -> None:
        guards = any(_is_import_error(handler.type) for handler in node.handlers)
        self._walk(node.body, optional=guards)
        for handler in node.handlers:
            self._walk(handler.body)
        self._walk((*node.orelse, *node.finalbody))

    def visit_If(self, node: ast.If) -> None:
        answer = _holds(node.test, self._python, self._flags)
        if answer is not False:
            self._walk(node.body, optional=answer is _MAYBE)
        if answer is not True:
            self._walk(node.orelse, optional=answer is _MAYBE)


def _names(body: Sequence[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            yield statement.module


def _dotted(node: ast.expr) -> str:
    """Return `a.b.c` for such an expression, with nothing for what is computed."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "")
    return ".".join(reversed(parts))


# ── guards ──────────────────────────────────────────────────────────────────────────────────────

_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError"}
_BROAD = {"Exception", "BaseException"}
_PLAIN = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Pass)


def _is_import_error(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return any(_is_import_error(one) for one in node.elts)
    return node is not None and _dotted(node).rpartition(".")[2] in _IMPORT_ERRORS


def _catches(handler: ast.ExceptHandler, body: Sequence[ast.stmt]) -> bool:
    """Say whether a handler is there for a failed import; a broad one only round bare imports."""
    if _is_import_error(handler.type):
        return True
    broad = handler.type is None or _dotted(handler.type).rpartition(".")[2] in _BROAD
    return broad and all(isinstance(statement, _PLAIN) for statement in body)


_ENDINGS = {"exit", "quit", "_exit", "abort", "fail", "error"}


def _gives_up(body: Sequence[ast.stmt]) -> bool:
    """Say whether a handler ends the program: then the import was needed after all."""
    for statement in body:
        if isinstance(statement, ast.Raise):
            return True
        called = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(called, ast.Call):
            name = _dotted(called.func)
            if name.rpartition(".")[2] in _ENDINGS - {"error"} or name == "parser.error":
                return True
    return False


_MAYBE = "maybe"


def _holds(test: ast.expr, python: tuple[int, int], flags: set[str]) -> bool | str | None:
    """Return whether a condition holds in the image, _MAYBE by what is installed, None unknown."""
    match test:
        case ast.Constant():
            return bool(test.value)
        case ast.UnaryOp(op=ast.Not()):
            inner = _holds(test.operand, python, flags)
            return (not inner) if isinstance(inner, bool) else inner
        case ast.BoolOp():
            return _joined(test, [_holds(value, python, flags) for value in test.values])
        case ast.Compare():
            known = _compared(test, python)
            return _MAYBE if known is None and _asks_for_spec(test) else known
        case ast.Name() if test.id in flags:
            return _MAYBE
        case ast.Name() | ast.Attribute():
            return _named(_dotted(test))
        case ast.Call():
            return _called(test)
        case _:
            return None


def _named(name: str) -> bool | None:
    last = name.rpartition(".")[2]
    return {"TYPE_CHECKING": False, "PY2": False, "PY3": True}.get(last)


def _joined(test: ast.BoolOp, answers: list[bool | str | None]) -> bool | str | None:
    decisive = isinstance(test.op, ast.Or)  # one True decides an `or`, one False an `and`
    if decisive in answers:
        return decisive
    if _MAYBE in answers:
        return _MAYBE
    return None if None in answers else not decisive


_HERE = {"sys.platform": "linux", "os.name": "posix", "platform.system": "Linux"}


_LISTS = (ast.Tuple, ast.List, ast.Set)


def _compared(test: ast.Compare, python: tuple[int, int]) -> bool | None:
    if len(test.ops) != 1:
        return None
    left, right, operator = test.left, test.comparators[0], test.ops[0]
    if isinstance(left, ast.Call):
        left = left.func
    name = _dotted(left.value if isinstance(left, ast.Subscript) else left)
    if name.endswith("version_info") or name == "version_info":
        return _version_compared(left, operator, right, python)
    here = _HERE.get(name)
    if here is None:
        return None
    if isinstance(right, _LISTS) and isinstance(operator, ast.In | ast.NotIn):
        inside = here in [one.value for one in right.elts if isinstance(one, ast.Constant)]
        return inside is isinstance(operator, ast.In)
    if isinstance(right, ast.Constant) and isinstance(operator, ast.Eq | ast.NotEq):
        return (right.value == here) is isinstance(operator, ast.Eq)
    return None


def _version_compared(
    left: ast.expr, operator: ast.cmpop, right: ast.expr, python: tuple[int, int]
) -> bool | None:
    try:
        value = ast.literal_eval(right)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    here: tuple[int, ...] = python
    if isinstance(left, ast.Subscript):
        if not isinstance(left.slice, ast.Constant) or left.slice.value != 0:
            return None
        here, value = python[:1], (value,)
    if not isinstance(value, tuple) or not all(isinstance(part, int) for part in value):
        return None
    match operator:
        case ast.GtE() | ast.Gt():
            return here >= value[: len(here)]
        case ast.Lt():
            return here < value
        case ast.Eq():
            return here[: len(value)] == value
        case _:
            return None


def _called(test: ast.Call) -> bool | str | None:
    name = _dotted(test.func)
    first = test.args[0] if test.args else None
    if name == "sys.platform.startswith" and isinstance(first, ast.Constant):
        return isinstance(first.value, str) and "linux".startswith(first.value)
    return _MAYBE if _asks_for_spec(test) else None


def _asks_for_spec(node: ast.expr) -> bool:
    """Say whether an expression asks if a module can be found."""
    return any(
        isinstance(inner, ast.Call) and _dotted(inner.func).rpartition(".")[2] == "find_spec"
        for inner in ast.walk(node)
    )


def shifted(found: Scan, lines: Sequence[int]) -> Scan:
    """Return a scan whose line numbers are looked up in `lines`, for code taken out of a file."""

    def moved(line: int) -> int:
        return lines[min(line, len(lines)) - 1] if lines else 1

    return replace(
        found,
        imports=tuple(replace(one, line=moved(one.line)) for one in found.imports),
        fault_line=moved(found.fault_line),
    )
