"""The rules of the house about Python code, each a function from a source to its faults.

What ruff and mypy already say (annotations, prints, complexity) is not said again here.
"""

import ast
import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from tests.tidy.tree import Fault, Source

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600
COLUMNS_MAX = 100
POSITIONAL_MAX = 5
UNDOCUMENTED_LINES_MAX = 15

BROAD_EXCEPT_FILES = ("ops/tasks.py", "media/guard.py", "services/_jobs/attempt.py")
TASK_FILES = ("ops/tasks.py",)
BANNED_NAMES = ("utils", "helpers", "base", "manager")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[Source], Iterator[Fault]]

_QUEUES = {"Queue": "maxsize", "LifoQueue": "maxsize", "PriorityQueue": "maxsize"}
_SHAPES = re.compile(
    r"(typing\.|abc\.|enum\.|msgspec\.)?"
    r"(Protocol|Generic|NamedTuple|Struct|ABC|Enum|StrEnum)(\[.*)?"
)


def functions(tree: ast.Module) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """Every function with the class it is a method of."""
    waiting: list[tuple[ast.AST, ast.ClassDef | None]] = [(tree, None)]
    while waiting:
        node, owner = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield child, owner
            inside = child if isinstance(child, ast.ClassDef) else None
            keeps_owner = not isinstance(child, Function | ast.ClassDef)
            waiting.append((child, owner if keeps_owner else inside))


def body_lines(function: Function) -> int:
    """Lines from `def` to the end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def file_length(source: Source) -> Iterator[Fault]:
    if len(source.lines) > FILE_LINES_MAX:
        yield Fault(FILE_LINES_MAX, f"{len(source.lines)} lines, over {FILE_LINES_MAX}")


def line_length(source: Source) -> Iterator[Fault]:
    for number, line in enumerate(source.lines, 1):
        if len(line) > COLUMNS_MAX:
            yield Fault(number, f"{len(line)} columns, over {COLUMNS_MAX}")


def function_length(source: Source) -> Iterator[Fault]:
    for function, _ in functions(source.tree):
        lines = body_lines(function)
        if lines > FUNCTION_LINES_MAX:
            yield Fault(function.lineno, f"{function.name} has {lines} lines, over 70")


def positional_parameters(source: Source) -> Iterator[Fault]:
    for function, owner in functions(source.tree):
        count = len(_positional(function, owner))
        if count > POSITIONAL_MAX:
            yield Fault(function.lineno, f"{function.name} takes {count} positional parameters")


def neighbours_of_same_type(source: Source) -> Iterator[Fault]:
    """Two neighbours of one type in a public function can be swapped unseen: keyword-only."""
    if not source.in_library or source.path.endswith(".pyi"):
        return
    for function, owner in functions(source.tree):
        if not _public(function, owner) or _overrides(function, owner):
            continue
        for left, right in pairwise(_positional(function, owner)):
            if left.annotation and right.annotation:
                kind = ast.unparse(left.annotation)
                if kind == ast.unparse(right.annotation) != "Any":
                    what = f"{function.name}: {left.arg} and {right.arg} are both {kind}"
                    yield Fault(function.lineno, f"{what}: make them keyword-only")


def module_docstring(source: Source) -> Iterator[Fault]:
    if source.tree.body and not ast.get_docstring(source.tree):
        yield Fault(1, "no docstring that says what the module is for")


def public_docstring(source: Source) -> Iterator[Fault]:
    if not source.in_library or source.path.endswith(".pyi"):
        return
    for function, owner in functions(source.tree):
        if not _public(function, owner):
            continue
        if body_lines(function) > UNDOCUMENTED_LINES_MAX and not ast.get_docstring(function):
            yield Fault(function.lineno, f"{function.name} is public, long and has no docstring")


def broad_except(source: Source) -> Iterator[Fault]:
    """Catching everything is a supervisor's business, unless it is raised again after tidying."""
    if source.path in BROAD_EXCEPT_FILES:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and not _raises_again(node):
            caught = ast.unparse(node.type) if node.type else ""
            if not caught or re.search(r"\b(Base)?Exception\b", caught):
                yield Fault(node.lineno, f"except {caught}".rstrip() + " outside a supervisor")


def task_creation(source: Source) -> Iterator[Fault]:
    """A task belongs to a group that somebody holds."""
    if not source.in_library or source.path in TASK_FILES:
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        receiver, _, verb = called.rpartition(".")
        of_a_group = "group" in receiver.rpartition(".")[2].lower()
        if verb in {"create_task", "ensure_future"} and not of_a_group:
            yield Fault(node.lineno, f"{called} outside ops/tasks.py")


def unbounded_queue(source: Source) -> Iterator[Fault]:
    """A queue has a bound of its own, or says on its line what bounds it: `# bounded: ...`."""
    if not source.in_library:
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2].partition("[")[0]
        if not _unbounded(name, node):
            continue
        line = source.lines[(node.end_lineno or node.lineno) - 1]
        if not re.search(r"# bounded: \w+", line):
            yield Fault(node.lineno, f"{name} without a bound")


def file_name(source: Source) -> Iterator[Fault]:
    stem = source.name.partition(".")[0]
    if stem in BANNED_NAMES or source.folder in BANNED_NAMES:
        yield Fault(1, f"name it by a noun its user knows, not {stem}")


def bare_import(source: Source) -> Iterator[Fault]:
    """`from media.rtp import Packet`, never `import media`."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if re.fullmatch(r"(edge|media|ops|realtime|services)(\..*)?", alias.name):
                    yield Fault(node.lineno, f"import {alias.name}: import what you use from it")


def settings_fields(source: Source) -> Iterator[Fault]:
    """A setting has a default and a sentence; a time or size carries its unit in its name."""
    if not source.in_library:
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef) or not re.fullmatch(r"\w+Settings", node.name):
            continue
        for field, following in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                yield from _setting(field, field.target.id, said=_is_sentence(following))


PYTHON_RULES: tuple[Rule, ...] = (
    file_name,
    line_length,
    function_length,
    positional_parameters,
    neighbours_of_same_type,
    module_docstring,
    public_docstring,
    broad_except,
    task_creation,
    unbounded_queue,
    bare_import,
    settings_fields,
)

_UNIT = re.compile(
    r"(^|_)(ns|us|ms|seconds|minutes|hours|days|bytes|kib|mib|bits|bit_rate|frame_rate"
    r"|sample_rate|hz|fps|pixels|percent|ratio|width|height|port|db)(_|$)"
)
_NEEDS_UNIT = re.compile(
    r"(^|_)(time|timeout|interval|delay|pause|age|period|duration|linger|window|size|length|idle"
    r"|rate|bandwidth|latency|silence|hold)(_|$)"
)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _is_sentence(statement: ast.stmt | None) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _setting(field: ast.AnnAssign, name: str, *, said: bool) -> Iterator[Fault]:
    kind = ast.unparse(field.annotation)
    made = ast.unparse(field.value) if field.value else ""
    required = field.value is None and said  # of one item in a list of settings
    if not required and not re.match(r"(\w+\.)*(setting|field)\(", made):
        yield Fault(field.lineno, f"{name}: give it a default and a sentence with setting()")
    number = kind in {"int", "float"}
    if number and not _UNIT.search(name) and (kind == "float" or _NEEDS_UNIT.search(name)):
        yield Fault(field.lineno, f"{name}: a number without a unit in its name is a count")


def _positional(function: Function, owner: ast.ClassDef | None) -> list[ast.arg]:
    taken = [*function.args.posonlyargs, *function.args.args]
    static = any(ast.unparse(mark) == "staticmethod" for mark in function.decorator_list)
    return taken[1:] if owner is not None and not static else taken


def _public(function: Function, owner: ast.ClassDef | None) -> bool:
    """A function of the module or a method, with a public name all along."""
    if function.name.startswith("_") or (owner and owner.name.startswith("_")):
        return False
    return function.col_offset <= (owner.col_offset + 4 if owner else 0)


def _overrides(function: Function, owner: ast.ClassDef | None) -> bool:
    if any(ast.unparse(mark).endswith("override") for mark in function.decorator_list):
        return True
    parents = {ast.unparse(parent) for parent in owner.bases} if owner else set()
    return any(not _SHAPES.fullmatch(parent) for parent in parents)


def _unbounded(name: str, call: ast.Call) -> bool:
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    if name == "SimpleQueue":
        return True
    if name == "deque":
        return len(call.args) < 2 and "maxlen" not in named
    if name not in _QUEUES:
        return False
    bound = call.args[0] if call.args else named.get(_QUEUES[name])
    return bound is None or (isinstance(bound, ast.Constant) and not bound.value)
