"""The book: every equation with its check, every mistake, every docstring; links that lead somewhere."""

import importlib.util
import inspect
import json
import posixpath
import re
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from minilip.course.checks import Prediction, catalogue
from tools.book import api, browser, equations, mathjax, mistakes, pages, text
from tools.build import Course

ROOT = Path(__file__).resolve().parents[1]
COURSE = Course(ROOT)
NUMBERED = {
    lesson.name: set(equations.TAG.findall("".join(c.source for c in lesson.cells if c.cell_type == "markdown")))
    for lesson in COURSE.lessons
}


def installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) for package in packages)


# --- Equations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lesson", COURSE.lessons, ids=lambda lesson: lesson.name)
def test_every_numbered_equation_is_found_and_checked(lesson):
    found = equations.equations(lesson.cells)
    assert {e.number for e in found} == NUMBERED[lesson.name]
    assert [f"({e.number}) {e.tex}" for e in found if not e.cells] == []


def test_equations_and_their_checks_in_all_their_forms():
    cells = [
        new_markdown_cell(
            "# Title\n## First\n$$a = b. \\tag{1}$$\n\nWords, $x$.\n\n$$c\n  = d \\tag{1'}$$\n$$no = number$$"
        ),
        new_code_cell(
            "for k in (1, 2):\n    same(f\"(1') for {k}\", k, k)\nsame(\n    '(2), (3)', 1, 1)\n%matplotlib inline",
            outputs=[
                new_output(
                    "stream",
                    text="(1') for 1  left  1\n            right 1.1\n            relative difference 9.1e-02\n"
                    "(2), (3)  left  [1, 2]  (2,)\n          right [1, 2]  (2,)\n"
                    "          relative difference 0.0e+00\n",
                )
            ],
        ),
        new_markdown_cell("## Second\n$$e \\tag{2} \\\\ f \\tag{3}$$ $$g \\tag{4}$$ $$h \\tag{5}$$"),
        new_code_cell("# check (4): by eye\nprint('(5)')\nsame('see (5)', 1, 1)\nother('(5)', 1, 1)"),
    ]
    found = {e.number: e for e in equations.equations(cells)}
    assert list(found) == ["1", "1'", "2", "3", "4", "5"]
    assert (found["1'"].tex, found["1'"].heading, found["3"].heading) == ("c\n  = d \\tag{1'}", "First", "Second")
    assert {number: e.cells for number, e in found.items()} == {
        "1": [], "1'": [1], "2": [1], "3": [1], "4": [3], "5": []
    }  # fmt: skip
    assert found["1'"].checks == [equations.Check("(1') for 1", "1", "1.1", "9.1e-02")]
    assert (
        found["2"].checks == found["3"].checks == [equations.Check("(2), (3)", "[1, 2] (2,)", "[1, 2] (2,)", "0.0e+00")]
    )
    cells[1].outputs = []
    assert [c.name for c in equations.equations(cells)[1].checks] == ["(1') for ..."]
    with pytest.raises(ValueError, match="(2) stands there twice.*'Second'".replace("(2)", r"\(2\)")):
        equations.equations([*cells, new_markdown_cell("$$\\tag{2}$$")])


def test_the_page_of_equations_is_complete():
    page = pages.equation_page(COURSE)
    linked = re.findall(r"^\[\((.+?)\)\]\(#eq-(.+?)-[\w-]+\) · \S", page, re.M)
    assert len(linked) == sum(map(len, NUMBERED.values())) == page.count(r"\tag{")
    assert "not checked" not in page
    assert f"All {len(linked)} numbered equations" in page
    results = re.findall(r"^- \[check\].*: `.+` and `.+`, relative difference \d\.\de[-+]\d\d$", page, re.M)
    assert len(results) >= len(linked) - 3  # a comment may say that a cell checks two, where it prints one


# --- Mistakes --------------------------------------------------------------------------------------------------------


def test_the_page_of_mistakes_is_complete():
    grouped = mistakes.mistakes()
    listed = {(m.name, m.message, e) for each in grouped.values() for m in each for e in m.exercises}
    known = {(m.name, m.message, name) for name, (_, exercise) in catalogue().items() for m in exercise.misconceptions}
    assert listed == known
    page = pages.mistake_page(COURSE)
    lines = re.findall(r"^- \*\*.+\)$", page, re.M)
    assert len(lines) == sum(map(len, grouped.values()))
    assert {name for line in lines for name in re.findall(r"\(#check-([\w.]+)\)", line)} == catalogue().keys()
    for each in grouped.values():
        assert all(text.plain(text.words(m.message)) in page for m in each)


def test_a_mistake_goes_to_the_idea_that_its_name_speaks_of():
    temperature, sums = "Temperature and scale", "Means and sums"
    assert mistakes.idea("multiplies by the temperature", "Take the mean.").title == temperature
    assert mistakes.idea("sum instead of mean", "The temperature is right.").title == sums
    assert mistakes.idea("too warm", "Scores are divided by the temperature.").title == temperature
    assert mistakes.idea("quite wrong", "Look again.") is mistakes.LAST
    predicted = {m.name for _, e in catalogue().values() if isinstance(e, Prediction) for m in e.misconceptions}
    assert {m.name for m in mistakes.mistakes()[mistakes.EXPECTED.title]} == predicted
    assert len({one.title for one in mistakes.IDEAS}) == len(mistakes.IDEAS)


# --- Text and docstrings ---------------------------------------------------------------------------------------------


def test_plain_text_is_no_markup():
    assert text.plain("X**k, a * b and p(x_1 | c) <= $5") == r"X\*\*k, a \* b and p(x\_1 \| c) \<= \$5"
    assert text.plain("the *nearest* of `a_b * c`, B*D*K") == r"the *nearest* of `a_b * c`, B\*D\*K"
    assert text.plain("as $$ a_1^* $$ says") == "as $$ a_1^* $$ says"


def test_a_docstring_becomes_a_page():
    given = """One sentence about s_i.

    More, with code:

        with replacing(path) as part:

            save(part)

    $$ L = \\frac12

       + x_1 $$

    >>> words("a b")
    ['a', 'b']

    Args:
        x, y: (B, D), on
            two lines.
        **more: the rest.

    Returns:
        (B,), or $$ y_i $$ with it.

    Raises:
        ValueError: shapes.

    Source: Somebody 2020; lesson 01.
    """
    assert (
        api.markdown(given)
        == r"""One sentence about s\_i.

More, with code:

```python
with replacing(path) as part:

    save(part)
```

$$
L = \frac12
   + x_1
$$

```pycon
>>> words("a b")
['a', 'b']
```

**Arguments**

- `x, y`: (B, D), on two lines.
- `**more`: the rest.

**Returns**

(B,), or

$$
y_i
$$

with it.

**Raises**

- `ValueError`: shapes.

Source: Somebody 2020; lesson 01."""
    )


def test_every_public_function_has_its_place_with_its_formulas():
    found = api.pages()
    assert {"infonce", "clip", "prolip", "nn", "data", "training", "evaluation", "course", "studies"} <= found.keys()
    everything = ""
    for name, modules in found.items():
        page = api.page(name, modules, "https://example.org")
        squeezed = "".join(page.split())
        for module in modules if name not in api.COMMANDS else ():
            for thing, what in api.public(module).items():
                kind = "class" if inspect.isclass(what) else "function"
                assert f"{{py:{kind}}} {thing}" in page, f"{name}: {thing}"
                for formula in re.findall(r"\$\$(.+?)\$\$", what.__doc__, re.S):
                    assert "$$" + "".join(formula.split()) + "$$" in squeezed, f"{thing}: {formula}"
        everything += page
    for name in ("clip_loss", "info_nce", "fit", "check", "Scenes", "Exercise", "Tokenizer"):
        assert re.search(rf"^`+{{py:(class|function)}} {name}\(", everything, re.M), name
    assert "minilip.course.checks" in everything and "minilip.course.checks." not in everything  # those are answers


# --- Pages -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """The whole book, as Sphinx gets it: the text of every page."""
    out = tmp_path_factory.mktemp("book")
    pages.stage(COURSE, out)
    found = {}
    for path in sorted([*out.rglob("*.md"), *out.rglob("*.ipynb")]):
        name = path.relative_to(out).as_posix()
        found[name] = path.read_text("utf-8")
        if name.endswith(".ipynb"):
            assert found[name] == (ROOT / name).read_text("utf-8")  # what is downloaded is what is committed
            found[name] = pages.read_notebook(found[name], name, out, COURSE)
    return out, found


def prose(name: str, content: str) -> str:
    if name.endswith(".md"):
        return re.sub(r"(`{3,6})(python|pycon)\n.*?\n\1$", "", content, flags=re.S | re.M)
    return "\n\n".join(c["source"] for c in json.loads(content)["cells"] if c["cell_type"] == "markdown")


def test_every_page_is_in_the_contents_and_no_other(staged):
    _, found = staged
    listed = {
        line
        for content in found.values()
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", content, re.S | re.M)
        for line in tree.splitlines()
        if line and not line.startswith(":")
    }
    assert listed | {"index"} == {name.rpartition(".")[0] for name in found}


def test_links_lead_somewhere(staged):
    out, found = staged
    texts = {name: prose(name, content) for name, content in found.items()}
    targets = [t for content in texts.values() for t in re.findall(r"^\(([\w.-]+)\)=$", content, re.M)]
    assert len(targets) == len(set(targets))
    broken = []
    for name, content in texts.items():
        for _, _, target in pages.LINK.findall(re.sub(r"`[^`\n]+`", "", content)):
            path, _, fragment = target.partition("#")
            place = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
            right = (out / place).is_file() if path else fragment in targets
            if "://" not in target and not right:
                broken.append(f"{name}: {target}")
    assert broken == []
    assert "colab-badge" not in "".join(texts.values())


def test_a_lesson_in_the_book_is_the_lesson(staged):
    _, found = staged
    for lesson in COURSE.lessons:
        cells = json.loads(found[f"notebooks/{lesson.name}.ipynb"])["cells"]
        shown = [c["source"] for c in cells if c["cell_type"] == "code"]
        assert shown == [c.source for c in lesson.cells if c.cell_type == "code"]
        targets = {t for c in cells for t in re.findall(rf"^\(eq-{lesson.name}-(.+)\)=$", c["source"], re.M)}
        assert targets == set(map(equations.label, NUMBERED[lesson.name]))
        assert len({c["id"] for c in cells}) == len(cells)


def test_links_of_the_repository_lead_to_its_site(tmp_path):
    (tmp_path / "exercises").mkdir()
    (tmp_path / "exercises" / "01_infonce.ipynb").touch()
    lines = {
        "[a](../exercises/01_infonce.ipynb)": "[a](../exercises/01_infonce.ipynb)",
        "[a](../minilip/clip.py#L3)": f"[a](https://github.com/{COURSE.repository}/blob/main/minilip/clip.py#L3)",
        "[a](../minilip)": f"[a](https://github.com/{COURSE.repository}/tree/main/minilip)",
        "[a](../README.md)": "[a](../index.md)",
        "[a](#b) [c](https://example.org)": "[a](#b) [c](https://example.org)",
        "[a](nowhere.md)": "[a](nowhere.md)",
        f"{COURSE.badge('notebooks/07_clip.ipynb')} Run time": "Run time",
    }
    for given, expected in lines.items():
        assert pages.adapt(given, "notebooks/x.ipynb", tmp_path, COURSE) == expected
    row = pages.adapt(f"| x | {COURSE.badge('notebooks/07_clip.ipynb')} |", "index.md", tmp_path, COURSE)
    assert re.fullmatch(r"\| x \| \[Colab\]\(https://colab\.[^)]*07_clip\.ipynb\) \|", row)


def test_a_part_of_the_course_makes_a_book(tmp_path):
    part = pages.part(COURSE, ["07"])
    assert [lesson.name for lesson in part.lessons] == ["07_clip"]
    assert set(part.notebooks) == {f"{folder}/07_clip.ipynb" for folder in ("notebooks", "exercises", "solutions")}
    with pytest.raises(pages.BuildError, match="no lesson starts with 99"):
        pages.part(COURSE, ["99"])


def test_the_solutions_are_called_so(staged):
    _, found = staged
    first = json.loads(found["solutions/07_clip.ipynb"])["cells"][0]["source"]
    assert first.startswith("# 07 · CLIP: solutions\n")


def test_mathjax_is_pinned():
    files = mathjax.MATHJAX.files
    assert "es5/tex-mml-chtml.js" in files and sum(path.endswith(".woff") for path in files) == 23
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files.values())


# --- Built and read --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not installed("sphinx", "myst_nb", "sphinx_book_theme"), reason="`make book` installs Sphinx")
def test_a_lesson_is_built_without_a_warning(tmp_path):
    from tools.book.__main__ import build

    assert build(ROOT, tmp_path, ["07"]) == 0
    page = (tmp_path / "html" / "notebooks" / "07_clip.html").read_text("utf-8")
    for number in NUMBERED["07_clip"]:
        assert f'id="eq-07-clip-{equations.label(number)}"' in page
    assert "begin{split}" not in page and "_static/mathjax/tex-mml-chtml.js" in page
    index = (tmp_path / "html" / "searchindex.js").read_text("utf-8")
    assert '"notebooks/07_clip"' in index
    downloaded = (tmp_path / "html" / "_sources" / "notebooks" / "07_clip.ipynb").read_text("utf-8")
    assert downloaded == (ROOT / "notebooks" / "07_clip.ipynb").read_text("utf-8")


def test_what_the_browser_is_to_find_it_finds(tmp_path, capsys):
    sync = pytest.importorskip("playwright.sync_api", reason="`make book-check` installs playwright")
    with sync.sync_playwright() as play:
        if not browser.chromium(None) and not Path(play.chromium.executable_path).exists():
            pytest.skip("no Chromium")
    (tmp_path / "search.html").write_text(
        '<ul id="search-results">' + '<li><a href="solutions/x.html">x</a></li>' * 4 + "</ul>"
    )
    (tmp_path / "good.html").write_text('<body id="top"><a href="#top">x</a> costs 5, in <code>$HOME</code></body>')
    (tmp_path / "bad.html").write_text(
        '<article class="bd-article"><p>so $x = 1$</p><p style="width: 2000px">wide</p><img src="none.png">'
        '<a href="gone.html">x</a><a href="good.html#gone">x</a><span class="math">\\(y\\)</span>'
        '<div class="math"><mjx-container><mjx-math><b style="margin: -90px">z</b></mjx-math></mjx-container></div>'
        "<mjx-merror>bad formula</mjx-merror><script>console.error('said'); throw Error('thrown')</script></article>"
    )
    assert browser.check(tmp_path) == 1
    lines = capsys.readouterr().out.splitlines()
    said = (
        "console error: said",
        "error: thrown",
        "still text: so $x",
        "not rendered: ",
        "with an error: bad",
        "cut off on its left",
    )
    seen = "pixels too wide", "picture missing: ", "leads nowhere: ", "no such place: ", "finds a solution: "
    for fault in (*said, *seen):
        assert any(fault in line for line in lines), fault
    assert not any(line.startswith("good.html") for line in lines)
