"""Read every page of the book in a browser, as wide as a desk and as narrow as a phone, and list what is wrong.

Pages are opened as files: a book that works so works without a server and without a network.
"""

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlparse

WIDTHS = (1280, 390)  # pixels
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")

READY = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  document.querySelectorAll('.bd-article details').forEach(d => d.open = true);
  document.querySelectorAll('img').forEach(i => i.loading = 'eager');
  await Promise.all([...document.images].map(i => i.decode().catch(() => null)));
}"""

LOOK = r"""() => {
  const article = document.querySelector('.bd-article') || document.body;
  const text = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  const raw = [];
  while (text.nextNode()) {
    const node = text.currentNode;
    if (node.parentElement.closest('code, pre, script, style, mjx-container')) continue;
    // $HOME is a variable of the system
    if (/\$(?![A-Z_]{4,})|\\[a-zA-Z]{2,}|\\\(|\\\[/.test(node.data)) raw.push(node.data.trim().slice(0, 90));
  }
  const left = e => e.getBoundingClientRect().left;
  const rendered = [...document.querySelectorAll('.math')];
  return {
    title: document.title,
    ids: [...document.querySelectorAll('[id]')].map(e => e.id),
    links: [...document.querySelectorAll('a[href]')].map(e => e.href),
    raw,
    errors: [...document.querySelectorAll('mjx-merror, [data-mjx-error]')].map(e => e.textContent.slice(0, 90)),
    formulas: rendered.length,
    bare: rendered.filter(e => !e.querySelector('mjx-container')).map(e => e.textContent.slice(0, 90)),
    cut: rendered.filter(e => e.tagName === 'DIV' && (e.scrollLeft = 0,
      [...e.querySelectorAll('mjx-math *')].some(x => left(x) < left(e) - 4)))
      .map(e => e.id || e.textContent.slice(0, 40)),
    broken: [...document.images].filter(i => !i.naturalWidth).map(i => i.src),
    wide: document.documentElement.scrollWidth - window.innerWidth,
    reaching: document.documentElement.scrollWidth <= window.innerWidth ? [] :
      [...article.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > window.innerWidth + 1
        && !e.closest('pre, table, .math, mjx-container')).slice(0, 3).map(e => e.outerHTML.slice(0, 80)),
  };
}"""


def chromium(named: str | None) -> str | None:
    """A browser that is installed, or None for playwright's own."""
    return named or next(filter(None, map(shutil.which, CHROMIUMS)), None)


def check(html: Path, pictures: Path | None = None, named: str | None = None) -> int:
    """Print what is wrong with the pages below `html`, and how much was looked at; 0 if nothing is."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print('the check needs playwright: python -m pip install -e ".[browser]"')
        return 2
    found: list[str] = []
    seen: dict[str, dict[str, Any]] = {}
    pages = sorted(str(p.relative_to(html).as_posix()) for p in html.rglob("*.html") if "_static" not in p.parts)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(named), args=["--no-sandbox", "--disable-gpu"])
        for width in WIDTHS:
            context = browser.new_context(viewport={"width": width, "height": 900})
            for name in pages:
                at = f"{name} at {width}"
                page = context.new_page()
                said: list[str] = []
                listen(page, said)
                page.goto((html / name).resolve().as_uri())
                page.evaluate(READY)
                look = seen[name] = page.evaluate(LOOK)
                found += [f"{at}: {line}" for line in said]
                found += [f"{at}: formula with an error: {x}" for x in look["errors"]]
                found += [f"{at}: formula not rendered: {x}" for x in look["bare"]]
                found += [f"{at}: formula cut off on its left: {x}" for x in look["cut"]]
                found += [f"{at}: a formula that is still text: {x}" for x in look["raw"]]
                found += [f"{at}: picture missing: {x}" for x in look["broken"]]
                if look["wide"] > 0:
                    found.append(f"{at}: {look['wide']} pixels too wide: {' '.join(look['reaching'])}")
                if pictures:
                    picture(page, pictures, name, width)
                page.close()
            context.close()
        found += search(browser, html)
        browser.close()
    links = [(name, href) for name, look in seen.items() for href in sorted(set(look["links"]))]
    found += broken(html, seen, links)
    formulas = sum(look["formulas"] for look in seen.values())
    print("\n".join(found))
    print(f"{len(seen)} pages at {' and '.join(map(str, WIDTHS))} px, {formulas} formulas, {len(links)} links: "
          f"{len(found)} faults")  # fmt: skip
    return int(bool(found))


def listen(page: Any, said: list[str]) -> None:
    """Note what the console says, and every address that is not a file of the book."""
    page.on("console", lambda m: said.append(f"console {m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: said.append(f"error: {e}"))
    page.on("requestfailed", lambda r: said.append(f"request failed: {r.url}"))
    page.on("request", lambda r: said.append(f"asks the network: {r.url}") if r.url.startswith("http") else None)


def picture(page: Any, folder: Path, name: str, width: int) -> None:
    """Light, and dark for the narrow one too."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = name.removesuffix(".html").replace("/", "-")
    for mode in ("light", "dark"):
        page.evaluate("mode => { document.documentElement.dataset.theme = mode }", mode)
        page.screenshot(path=folder / f"{stem}-{width}-{mode}.png")


def broken(html: Path, seen: dict[str, dict[str, Any]], links: list[tuple[str, str]]) -> list[str]:
    """Links to files that are not there, and to places that are not on them."""
    found = []
    root = html.resolve()
    for name, href in links:
        address, fragment = urldefrag(href)
        if urlparse(address).scheme != "file":
            continue
        path = Path(unquote(urlparse(address).path))
        if not path.is_file():
            found.append(f"{name}: leads nowhere: {href}")
            continue
        target = seen.get(path.relative_to(root).as_posix()) if path.is_relative_to(root) else None
        if fragment and target and unquote(fragment) not in target["ids"]:
            found.append(f"{name}: no such place: {href}")
    return found


def search(browser: Any, html: Path) -> list[str]:
    """The search finds a word of the course, and nothing in the solutions."""
    page = browser.new_page()
    said: list[str] = []
    listen(page, said)
    page.goto((html / "search.html").resolve().as_uri() + "?q=temperature")
    page.wait_for_function("document.querySelectorAll('#search-results li').length > 3", timeout=20_000)
    hits = page.eval_on_selector_all("#search-results li a", "all => all.map(a => a.getAttribute('href'))")
    page.close()
    return said + [f"search: finds a solution: {hit}" for hit in hits if "solutions/" in hit]
