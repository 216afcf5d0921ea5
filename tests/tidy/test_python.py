"""Every Python file keeps the rules of the house, and each rule catches what it is for."""

import pytest

from tests.tidy import rules
from tests.tidy.tree import Source, fail_with, python_sources


@pytest.mark.parametrize("rule", rules.PYTHON_RULES, ids=lambda rule: rule.__name__)
def test_code_keeps_the_rule(rule: rules.Rule) -> None:
    fail_with((source.path, fault) for source in python_sources() for fault in rule(source))


def test_exempt_files_need_their_exemption() -> None:
    by_path = {source.path: source for source in python_sources()}
    for path in rules.BROAD_EXCEPT_FILES:
        moved = Source("ops/elsewhere.py", by_path[path].text)
        assert list(rules.broad_except(moved)), (
            f"{path} catches nothing broad: take it off the list"
        )
    for path in rules.TASK_FILES:
        moved = Source("ops/elsewhere.py", by_path[path].text)
        assert list(rules.task_creation(moved)), f"{path} makes no task: take it off the list"


BREACHES = {
    "file_name": ("edge/utils.py", '"""Doc."""\n'),
    "line_length": ("edge/a.py", "#" * 101),
    "function_length": ("edge/a.py", "def f():\n" + "    x = 1\n" * 70),
    "positional_parameters": ("edge/a.py", "def f(a, b, c, d, e, f): ..."),
    "neighbours_of_same_type": ("edge/a.py", "def f(a: int, b: int) -> None: ..."),
    "module_docstring": ("edge/a.py", "x = 1\n"),
    "public_docstring": ("edge/a.py", "def f():\n" + "    x = 1\n" * 16),
    "broad_except": ("edge/a.py", "try:\n    f()\nexcept (OSError, Exception):\n    g()\n"),
    "task_creation": ("edge/a.py", "asyncio.ensure_future(f())"),
    "unbounded_queue": ("edge/a.py", "q = asyncio.Queue[int](0)"),
    "bare_import": ("edge/a.py", "import media.hls"),
    "settings_fields": ("edge/a.py", "class ASettings:\n    idle: int = setting(3, 'Doc.')"),
}


@pytest.mark.parametrize("rule", rules.PYTHON_RULES, ids=lambda rule: rule.__name__)
def test_rule_catches_a_breach(rule: rules.Rule) -> None:
    path, text = BREACHES[rule.__name__]
    assert list(rule(Source(path, text)))


SOUND = [
    ("task_creation", "edge/a.py", "async def f(group):\n    group.create_task(g())"),
    (
        "unbounded_queue",
        "edge/a.py",
        "q = deque(maxlen=3)\nr = deque()  # bounded: by inflight_max",
    ),
    ("neighbours_of_same_type", "edge/a.py", "def f(a: int, *, b: int) -> None: ..."),
    (
        "neighbours_of_same_type",
        "edge/a.py",
        "class P(asyncio.Protocol):\n def f(s, a: int, b: int): ...",
    ),
    ("broad_except", "ops/tasks.py", "try:\n    f()\nexcept Exception:\n    g()\n"),
    ("settings_fields", "edge/a.py", "class ASettings:\n    idle_ms: int = setting(3, 'Doc.')"),
    ("settings_fields", "edge/a.py", "class ASettings:\n    workers: int = setting(3, 'Doc.')"),
    ("function_length", "edge/a.py", 'def f():\n    """' + "Doc.\n" * 80 + '    """\n    return 1'),
]


@pytest.mark.parametrize(("name", "path", "text"), SOUND)
def test_rule_lets_sound_code_pass(name: str, path: str, text: str) -> None:
    assert not list(getattr(rules, name)(Source(path, text)))
