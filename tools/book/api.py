"""The pages of the library, out of its docstrings: a page a method, a page a folder.

Docstrings are plain text with formulas between double dollars, code in backticks or indented, and the sections Args,
Returns, Raises. They are read as that, and not as reStructuredText.
"""

import ast
import copy
import functools
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import minilip

from .text import plain, words

SECTION = re.compile(r"(Args|Returns|Raises|Attributes|Yields):$")
TITLES = {"Args": "Arguments"}
COMMANDS = {"studies"}  # called from a command line and by lessons: what each module says is enough


def pages() -> dict[str, list[ModuleType]]:
    """The name of a page, "clip" or "nn", and the modules on it: those with a docstring and public names."""
    found: dict[str, list[ModuleType]] = {}
    for name in sorted(m.name for m in pkgutil.walk_packages(minilip.__path__, "minilip.")):
        parts = name.split(".")[1:]
        if any(part.startswith("_") for part in parts):
            continue
        module = importlib.import_module(name)
        if not hasattr(module, "EXERCISES") and (public(module) or hasattr(module, "__path__")):  # those spoil
            found.setdefault(parts[0], []).append(module)
    return found


def public(module: ModuleType) -> dict[str, Any]:
    """Functions and classes with a docstring that a module defines, or offers out of a private file."""
    offered = set(getattr(module, "__all__", ()))
    found = {}
    for name, thing in vars(module).items():
        if name.startswith("_") or not (inspect.isfunction(thing) or inspect.isclass(thing)) or not thing.__doc__:
            continue
        home = thing.__module__
        hidden = home.startswith(f"{module.__name__}.") and any(p.startswith("_") for p in home.split("."))
        if home == module.__name__ or (name in offered and hidden):
            found[name] = thing
    order = {name: node(thing).lineno for name, thing in found.items() if written(thing)}
    return {name: found[name] for name in sorted(order, key=lambda n: (found[n].__module__, order[n]))}


@functools.cache
def tree(path: str) -> tuple[list[str], dict[str, Any]]:
    """The lines of a file, and its functions and classes by name."""
    text = Path(path).read_text("utf-8")
    found = (x for x in ast.parse(text).body if isinstance(x, ast.FunctionDef | ast.ClassDef))
    return text.splitlines(), {x.name: x for x in found}


def node(thing: Any) -> Any:
    """What the source says, as a tree; None where it is not written there."""
    return tree(str(sys.modules[thing.__module__].__file__))[1].get(inspect.unwrap(thing).__name__)


def source(thing: Any) -> str:
    lines, _ = tree(str(sys.modules[thing.__module__].__file__))
    found = node(thing)
    return "\n".join(lines[min(x.lineno for x in (found, *found.decorator_list)) - 1 : found.end_lineno])


def written(thing: Any) -> bool:
    """Whether its source can be had, and words of its own: a dataclass without them has its signature there."""
    return bool(node(thing)) and not str(thing.__doc__).startswith(f"{thing.__name__}(")


def signature(found: ast.FunctionDef | ast.ClassDef) -> str:
    """As it is written, defaults and annotations, without self."""
    if isinstance(found, ast.FunctionDef):
        returns = f" -> {ast.unparse(found.returns)}" if found.returns else ""
        return f"{found.name}({arguments(found)}){returns}"
    for method in found.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return f"{found.name}({arguments(method)})"
    above = " ".join(map(ast.unparse, [*found.decorator_list, *found.bases]))
    if "dataclass" not in above and "NamedTuple" not in above:
        return found.name
    return f"{found.name}({', '.join(ast.unparse(x) for x in found.body if isinstance(x, ast.AnnAssign))})"


def arguments(found: ast.FunctionDef) -> str:
    given = copy.deepcopy(found.args)
    if given.args and given.args[0].arg in ("self", "cls"):
        del given.args[0]
    return ast.unparse(given)


def markdown(docstring: str) -> str:
    """A docstring as MyST."""
    out: list[str] = []
    section = ""
    for block in blocks(inspect.cleandoc(docstring)):
        first, _, rest = block.partition("\n")
        if found := SECTION.fullmatch(first):
            section = found[1]
            out.append(f"**{TITLES.get(section, section)}**")
            out += entries(textwrap.dedent(rest), section) if rest else []
        elif block.startswith(("    ", ">>> ")):
            language = "pycon" if ">>> " in block else "python"
            out.append(f"```{language}\n{textwrap.dedent(block)}\n```")
        else:
            out.append(display(plain(block)))
    return "\n\n".join(out)


def blocks(text: str) -> list[str]:
    """Paragraphs, examples, sections. What is indented under a section stays with it, a formula stays in one piece."""
    found: list[list[str]] = []
    new = True
    for line in text.splitlines():
        block = found[-1] if found else []
        section = bool(block and SECTION.fullmatch(block[0]))
        formula = not section and "\n".join(block).count("$$") % 2 == 1
        example = bool(block and block[0].startswith((">>> ", "    ")))
        if not line.strip():
            new = new or not formula
            if block and (section or example) and not block[0].startswith(">>> "):
                block.append("")
        elif (section or (example and block[0].startswith("    "))) and line.startswith("    "):
            block.append(line)
            new = False
        elif new or SECTION.fullmatch(line) or section or (line.startswith(">>> ") and not example):
            found.append([line])
            new = False
        else:
            block.append(line)
    return ["\n".join(block).rstrip() for block in found]


def entries(text: str, section: str) -> list[str]:
    """`name: what it is` a line, going on where a line is indented further; prose where there are no names."""
    if section == "Returns" or not re.match(r"[\w*, ]+: ", text):
        return [display(plain(text))]
    items = re.split(r"\n(?=\S)", text)
    lines = []
    for item in items:
        name, colon, what = item.partition(": ")
        lines.append(f"- `{name.strip()}`: {plain(words(what))}" if colon else f"- {plain(words(item))}")
    return ["\n".join(lines)]


def display(text: str) -> str:
    """Formulas on lines of their own."""
    text = re.sub(r"\s*\$\$\s*(.+?)\s*\$\$[ ]*", lambda m: f"\n\n$$\n{m[1]}\n$$\n\n", text, flags=re.S)
    return text.strip()


def entry(thing: Any) -> str:
    """A function, or a class with its methods, and its source folded under it."""
    found = node(thing)
    kind = "class" if isinstance(found, ast.ClassDef) else "function"
    body = [f"```````{{py:{kind}}} {words(signature(found))}", "", markdown(thing.__doc__)]
    for method in found.body if kind == "class" else ():
        says = ast.get_docstring(method) if isinstance(method, ast.FunctionDef) else None
        if says and not method.name.startswith("_"):
            body += ["", f"``````{{py:method}} {words(signature(method))}", "", markdown(says), "``````"]
    shown = f"````python\n{source(thing)}\n````"
    body += ["", "<details><summary>Source</summary>", "", shown, "", "</details>", "```````"]
    return "\n".join(body)


def page(title: str, modules: list[ModuleType], repository: str) -> str:
    """A page of one module, or of a package and what is in it."""
    one = len(modules) == 1
    out = [f"# minilip.{title}"]
    for module in modules:
        things = public(module)
        if not (things or module.__doc__):
            continue
        if not one and module.__name__ != f"minilip.{title}":
            out.append(f"## {module.__name__}")
        out.append(markdown(module.__doc__ or ""))
        path = str(module.__file__).replace("\\", "/").rpartition("/minilip/")[2]
        out.append(f"[minilip/{path}]({repository}/minilip/{path})")
        out.append(f"```{{py:currentmodule}} {module.__name__}\n```")
        if title not in COMMANDS:
            out += map(entry, things.values())
    return "\n\n".join(out) + "\n"
