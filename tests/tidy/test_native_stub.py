"""`media/_native.pyi` tells the truth about the built module: names, parameters, fields."""

import ast
import importlib
import inspect
from types import ModuleType
from typing import Any

import pytest

from tests.tidy.rules import Function
from tests.tidy.tree import ROOT

STUB = ast.parse((ROOT / "media/_native.pyi").read_text())
CLASSES = [node for node in STUB.body if isinstance(node, ast.ClassDef)]
METHODS = [
    (owner, method) for owner in CLASSES for method in owner.body if isinstance(method, Function)
]


@pytest.fixture(scope="module")
def native() -> ModuleType:
    """The built module."""
    return importlib.import_module("media._native")


def typed_names() -> set[str]:
    """Public names that the stub gives the module."""
    names = {owner.name for owner in CLASSES}
    names |= {node.name for node in STUB.body if isinstance(node, Function)}
    for node in STUB.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def typed_parameters(method: Function) -> list[tuple[str, str, Any]]:
    """Name, kind and default of each parameter but self."""
    taken = method.args
    positional = [*taken.posonlyargs, *taken.args]
    given = [None] * (len(positional) - len(taken.defaults)) + list(taken.defaults)
    first = [
        (arg.arg, "positional", _value(value)) for arg, value in zip(positional, given, strict=True)
    ]
    rest = zip(taken.kwonlyargs, taken.kw_defaults, strict=True)
    return [*first[1:], *((arg.arg, "keyword", _value(value)) for arg, value in rest)]


def real_parameters(callable_object: Any) -> list[tuple[str, str, Any]]:
    """The same from the built module."""
    return [
        (
            parameter.name,
            "keyword" if parameter.kind is parameter.KEYWORD_ONLY else "positional",
            "required" if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in inspect.signature(callable_object).parameters.values()
        if parameter.name != "self"
    ]


def test_names_are_the_same(native: ModuleType) -> None:
    real = {name for name in vars(native) if not name.startswith("_")}
    assert real == typed_names()


@pytest.mark.parametrize(("owner", "method"), METHODS, ids=lambda node: node.name)
def test_method_takes_what_the_stub_says(
    native: ModuleType, owner: ast.ClassDef, method: Function
) -> None:
    built = getattr(native, owner.name)
    real = built if method.name == "__init__" else getattr(built, method.name)
    assert real_parameters(real) == typed_parameters(method)


@pytest.mark.parametrize("owner", CLASSES, ids=lambda node: node.name)
def test_class_is_of_the_kind_the_stub_says(native: ModuleType, owner: ast.ClassDef) -> None:
    built = getattr(native, owner.name)
    for parent in map(ast.unparse, owner.bases):
        if parent == "NamedTuple":
            fields = [node.target.id for node in owner.body if isinstance(node, ast.AnnAssign)]
            assert list(built._fields) == fields
        else:
            assert issubclass(built, getattr(__import__("builtins"), parent))
    methods = {method.name for of, method in METHODS if of is owner} - {"__init__"}
    if methods:
        assert {name for name in vars(built) if not name.startswith("_")} == methods


def _value(node: ast.expr | None) -> Any:
    return "required" if node is None else ast.literal_eval(node)
