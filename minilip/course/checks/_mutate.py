"""Mechanical mistakes: change one thing in a right function at a time, and see whether the checks notice.

Signs, operators, constants (so axes too), comparisons, mean and sum, transposes, the order of two arguments, and one
argument for another.
"""

import ast
import copy
import inspect
import linecache
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from minilip.course import compare

from ._exercise import Exercise
from ._judge import problem_with
from ._observe import make_case

OPERATORS: dict[Any, Any] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
}
COMPARISONS: dict[Any, Any] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq}
METHODS = {"mean": "sum", "sum": "mean", "softmax": "log_softmax", "log_softmax": "softmax", "logsumexp": "amax",
           "argmin": "argmax", "argmax": "argmin", "max": "min", "min": "max", "exp": "expm1", "log": "log1p",
           "log1p": "log", "logsigmoid": "sigmoid", "softplus": "relu", "norm": "sum", "sqrt": "square"}  # fmt: skip


@dataclass
class Mutant:
    """A function with one change."""

    where: str
    function: Callable


@dataclass
class Survivor:
    """A mutant that passes."""

    where: str
    differs: bool  # on inputs of other seeds: the exercise's own inputs do not tell it from the right answer


def survivors(exercise: Exercise) -> tuple[int, list[Survivor]]:
    """How many mutants of the library's function and of the reference there are, and those that pass."""
    made, passed = 0, []
    for name, function in (("library", exercise.library), ("reference", exercise.reference)):
        for mutant in mutants(function):
            made += 1
            if problem_with(exercise, mutant.function) is None:
                passed.append(Survivor(f"{name} {mutant.where}", _differs(exercise, mutant.function)))
    return made, passed


def _differs(exercise: Exercise, function: Callable) -> bool:
    seeds = [torch.Generator().manual_seed(seed) for seed in (11, 12, 13)]
    fresh = [make_case(exercise, args) for seed in seeds for args in exercise.inputs(seed)]
    return problem_with(exercise, function, fresh) is not None


def mutants(function: Callable) -> Iterator[Mutant]:
    """Every function that differs from this one by one change; none where its source is no `def`."""
    plain = inspect.unwrap(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
    except (OSError, TypeError, SyntaxError):
        return
    if not isinstance(tree.body[0], ast.FunctionDef) or plain.__closure__:
        return
    arguments = compare.names(plain)
    for i in range(len(_nodes(tree))):
        for change in _changes(_nodes(tree)[i], arguments):
            other = copy.deepcopy(tree)
            words = change(_nodes(other)[i])
            yield Mutant(words, _compile(other, plain))


def _nodes(tree: ast.Module) -> list[ast.AST]:
    """All of the body that computes: no docstring, no refusal of bad input."""
    body = tree.body[0].body  # type: ignore[attr-defined]
    working = [s for s in body if not any(_refuses(node) for node in ast.walk(s)) and not _is_docstring(s)]
    return [node for statement in working for node in ast.walk(statement)]


def _refuses(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "_check"


def _is_docstring(statement: ast.AST) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _compile(tree: ast.Module, like: Callable) -> Callable:
    text = ast.unparse(ast.fix_missing_locations(tree))
    file = f"<mutant {abs(hash(text))}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    space = dict(like.__globals__)
    exec(compile(text, file, "exec"), space)
    return space[like.__name__]


def _changes(node: ast.AST, arguments: list[str]) -> Iterator[Callable[[Any], str]]:
    """The changes that a node can take, each in place; what it did, in words."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        yield _operator
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield _unsigned
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield _constant
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield _comparison
    if isinstance(node, ast.Attribute) and node.attr in METHODS:
        yield _method
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield _untransposed
    if isinstance(node, ast.Call) and len(node.args) >= 2:
        yield _exchanged
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in arguments:
        for other in arguments:
            if other != node.id:
                yield _renamed(other)


def _operator(node: Any) -> str:
    before = ast.unparse(node)
    node.op = OPERATORS[type(node.op)]()
    return f"{before} -> {ast.unparse(node)}"


def _unsigned(node: Any) -> str:
    before = ast.unparse(node)
    node.op = ast.UAdd()
    return f"{before} -> {ast.unparse(node)}"


def _constant(node: Any) -> str:
    before = node.value
    node.value = (not before) if isinstance(before, bool) else 1 - before if before in (0, 1) else before + 1
    return f"line {node.lineno}: {before} -> {node.value}"


def _comparison(node: Any) -> str:
    before = ast.unparse(node)
    node.ops = [COMPARISONS[type(node.ops[0])]()]
    return f"{before} -> {ast.unparse(node)}"


def _method(node: Any) -> str:
    before = ast.unparse(node)
    node.attr = METHODS[node.attr]
    return f"{before} -> {ast.unparse(node)}"


def _untransposed(node: Any) -> str:
    before = ast.unparse(node)
    node.attr = "mT.T"  # transposed twice
    return f"{before} without .T"


def _exchanged(node: Any) -> str:
    before = ast.unparse(node)
    node.args[:2] = node.args[1::-1]
    return f"{before} -> {ast.unparse(node)}"


def _renamed(other: str) -> Callable[[Any], str]:
    def change(node: Any) -> str:
        before, node.id = node.id, other
        return f"line {node.lineno}, column {node.col_offset}: {before} -> {other}"

    return change
