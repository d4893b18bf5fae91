"""What a reader's browser finds wrong with a page: each check returns its findings, none where all is well."""

from __future__ import annotations

import io
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, Request

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")

# Told by the page itself: a blocked load need not reach the console.
LISTEN = """addEventListener('securitypolicyviolation', e =>
  console.error(`policy: ${e.effectiveDirective} blocked ${e.blockedURI}`))"""
TAB_STOPS = """() => { window.stops = [...document.querySelectorAll(
  'a[href], summary, button, input, select, textarea, [tabindex="0"]')].filter(e => e.checkVisibility());
  return stops.map(e => `${e.tagName} ${e.getAttribute('aria-label') || e.textContent.trim()}`.slice(0, 60)) }"""
FOCUS = """() => { const e = document.activeElement, s = getComputedStyle(e), box = e.getBoundingClientRect();
  return { at: stops.indexOf(e), ring: s.outlineStyle === 'none' ? 0 : parseFloat(s.outlineWidth),
           seen: box.bottom > 0 && box.top < innerHeight } }"""
SCROLLERS_WITHOUT_STOP = """() => [...document.querySelectorAll('main *')].filter(e => e.checkVisibility()
  && e.scrollWidth > e.clientWidth && /auto|scroll/.test(getComputedStyle(e).overflowX)
  && !e.matches('[tabindex="0"]')).map(e => `${e.tagName}.${e.className} scrolls, and no key reaches it`)"""
TOO_WIDE = """() => document.scrollingElement.scrollWidth <= document.scrollingElement.clientWidth ? [] :
  [...document.querySelectorAll('main *')].filter(e => !e.parentElement.closest('.scroll, svg')
  && e.getBoundingClientRect().right > document.scrollingElement.clientWidth)
  .map(e => `${e.tagName}.${e.className} reaches beyond the page`)"""
SMALL_PRINT = """least => [...document.querySelectorAll('svg text')].filter(e => e.checkVisibility()
  && parseFloat(getComputedStyle(e).fontSize) * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b) < least)
  .map(e => `${e.closest('svg').querySelector('title').textContent}: "${e.textContent}" is too small to read`)"""
WHERE = "id => document.getElementById(id)?.getBoundingClientRect().top ?? null"
AT_END = "() => scrollY + innerHeight >= document.scrollingElement.scrollHeight - 2"


@dataclass
class Opened:
    """A page in the browser, and what was heard from it since it was opened."""

    page: Page
    loads: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def find_chromium() -> str | None:
    """The browser of this system."""
    return next((path for name in CHROMIUMS if (path := shutil.which(name))), None)


@contextmanager
def opened(browser: Browser, file: Path, width: int = 1280, scheme: str = "light") -> Iterator[Opened]:
    """A file, opened as by a double click."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    context.add_init_script(LISTEN)
    found = Opened(context.new_page())

    def load(request: Request) -> None:
        if request.url.split("#")[0] != file.as_uri():
            found.loads.append(f"{request.url[:80]} is loaded")

    context.on("request", load)
    found.page.on("console", lambda m: found.complaints.append(m.text) if m.type in ("error", "warning") else None)
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.goto(file.as_uri(), wait_until="load")
    try:
        yield found
    finally:
        context.close()


def loads(found: Opened) -> list[str]:
    """Whatever the page asked for besides itself."""
    return found.loads


def complaints(found: Opened) -> list[str]:
    """Errors and warnings on the console, refusals by the page's own policy."""
    return found.complaints


def dead_links(found: Opened) -> list[str]:
    """Links that do not bring their target to the top, or as near to it as the page's end allows."""
    page, findings = found.page, []
    for link in page.locator('a[href^="#"]:visible').all():
        anchor = link.get_attribute("href") or ""
        page.evaluate("scrollTo(0, 0)")
        link.click()
        top = page.evaluate(WHERE, anchor[1:])
        if top is None:
            findings.append(f"{anchor}: there is no such place")
        elif not (-2 <= top <= 60 or (0 < top < 800 and page.evaluate(AT_END))):
            findings.append(f"{anchor}: its place is {top:.0f} px from the top after the click")
    return findings or ([] if page.locator("nav a").count() else ["there is no list of contents"])


def key_faults(found: Opened) -> list[str]:
    """Tab goes through all that can be used, in the order of the page, and shows where it is."""
    page = found.page
    findings = page.evaluate(SCROLLERS_WITHOUT_STOP)
    for number, name in enumerate(page.evaluate(TAB_STOPS)):
        page.keyboard.press("Tab")
        now = page.evaluate(FOCUS)
        if now["at"] != number:
            return [*findings, f"{name}: stop {number} in the page, but the key leads to stop {now['at']}"]
        if now["ring"] < 2 or not now["seen"]:
            findings.append(f"{name}: has the focus and does not show it")
    return findings


def barriers(found: Opened) -> list[str]:
    """What axe-core calls serious or critical, with everything unfolded."""
    from axe_playwright_python.sync_playwright import Axe

    unfold(found.page)
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:90]}"
        for rule in Axe().run(found.page).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def too_wide(found: Opened) -> list[str]:
    """What makes the page scroll sideways."""
    unfold(found.page)
    return found.page.evaluate(TOO_WIDE)


def small_print(found: Opened) -> list[str]:
    """Words in drawings below 8 px."""
    return found.page.evaluate(SMALL_PRINT, 8)


def banner_out_of_sight(found: Opened) -> list[str]:
    """The banner's first sentence, and each target that was skipped, that one must scroll to see."""
    parts = found.page.locator(".banner p, .banner li > b:not(.mark)").all()
    boxes = [(part.inner_text(), part.bounding_box()) for part in parts if part.is_visible()]
    hidden = [f"{words}: below the fold" for words, box in boxes if box["y"] < 0 or box["y"] + box["height"] > 800]
    return hidden if boxes else ["there is no banner"]


def verdict_out_of_sight(found: Opened) -> list[str]:
    """The first comparison's answer, if one must scroll to see it."""
    answers = found.page.locator(".card .answer").all()
    if not answers:
        return ["there is no verdict"]
    box, height = answers[0].bounding_box(), found.page.viewport_size["height"]
    return [] if box["y"] + box["height"] <= height else [f"{answers[0].inner_text()}: below the fold"]


def sorting_faults(found: Opened) -> list[str]:
    """Tables that a click on a header does not sort, up and down."""
    column = "[...document.querySelectorAll('table.frame')].find(t => t.querySelector('button'))"
    if not found.page.evaluate(f"Boolean({column})"):
        return ["no table can be sorted"]
    read = f"[...{column}.tBodies[0].rows].map(r => r.cells[0].textContent)"
    orders = []
    for _ in range(2):
        found.page.evaluate(f"{column}.querySelector('th button').click()")
        orders.append(found.page.evaluate(read))
    up, down = orders
    return [] if up == sorted(up) and down == up[::-1] else [f"{up} and {down} are not in order"]


def pictures(found: Opened) -> list[str]:
    """Screenshots, of the top and of the whole page, that show next to nothing."""
    shots = {"top": found.page.screenshot(), "whole": found.page.screenshot(full_page=True)}
    shares = {name: inked(shot) for name, shot in shots.items()}
    return [f"the picture of the {name} is {share:.1%} ink" for name, share in shares.items() if share <= 0.05]


def paper_faults(found: Opened) -> list[str]:
    """What is wrong with the printed page: paper that is not white, parts of the banner that are missing."""
    page = found.page
    banner = [words for words in page.locator(".banner p, .banner li").all_inner_texts() if words]
    page.emulate_media(media="print")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    printed = pdf_words(page.pdf(format="A4"))
    missing = [words for words in [*banner, "Who is faster?"] if "".join(words.split()) not in printed]
    return [
        *([] if paper == "rgb(255, 255, 255)" else [f"the paper is {paper}"]),
        *([] if banner else ["there is no banner"]),
        *(f"not printed: {words}" for words in missing),
    ]


def unfold(page: Page) -> None:
    """Open everything that can be folded."""
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")


def inked(png: bytes) -> float:
    """The share of a picture's pixels that are not of its commonest shade."""
    shades = Image.open(io.BytesIO(png)).convert("L").histogram()
    return 1 - max(shades) / sum(shades)


def pdf_words(pdf: bytes) -> str:
    """The characters that a PDF by Chromium shows, spaces left out: its fonts number glyphs and tell their letters."""
    bodies = dict(re.findall(rb"\n(\d+) 0 obj(.*?)endobj", pdf, re.DOTALL))
    streams = {number: _stream(body) for number, body in bodies.items()}
    letters = {}
    for number, body in bodies.items():
        if table := re.search(rb"/ToUnicode (\d+) 0 R", body):
            letters[number] = _letters(streams[table[1]])
    words, font = [], {}
    for content in streams.values():
        for name, glyphs in re.findall(rb"/F(\d+) [\d.]+ Tf|<([0-9A-Fa-f]+)> ?T[jJ]", content):
            if name:
                font = letters.get(name, {})
            else:
                words += [font.get(int(glyphs[i : i + 4], 16), "") for i in range(0, len(glyphs), 4)]
    return re.sub(r"\s", "", "".join(words))


def _stream(body: bytes) -> bytes:
    _, found, rest = body.partition(b"stream\n")
    return zlib.decompressobj().decompress(rest) if found and b"/FlateDecode" in body else b""


def _letters(table: bytes) -> dict[int, str]:
    read = lambda code: bytes.fromhex(code.decode()).decode("utf-16-be")  # noqa: E731
    found = {}
    for block in re.findall(rb"beginbfchar(.*?)endbfchar", table, re.DOTALL):
        found |= {int(glyph, 16): read(code) for glyph, code in re.findall(rb"<(\w+)> <(\w+)>", block)}
    for block in re.findall(rb"beginbfrange(.*?)endbfrange", table, re.DOTALL):
        for first, last, code in re.findall(rb"<(\w+)> <(\w+)> <(\w+)>", block):
            for glyph in range(int(first, 16), int(last, 16) + 1):
                found[glyph] = chr(ord(read(code)) + glyph - int(first, 16))
    return found
