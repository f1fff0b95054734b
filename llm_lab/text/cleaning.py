"""From a docstring to its prose: paragraphs of whole English sentences, and nothing else.

Two steps, in this order:

1. `paragraphs` walks through the lines and leaves out what is no prose: doctests, code blocks, tables, signatures,
   parameter types, titles with their underlines, directives. Where it drops a line inside a paragraph it leaves a
   mark, so that the two halves are never glued together.
2. `sentences` removes the inline markup of a paragraph (keeping the words), splits it, and keeps a sentence only if
   it starts like one, ends like one, and consists mostly of English words.

`clean` does both. When a rule changes, raise `VERSION`, so that every cached corpus is built again.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

VERSION = 1

CUT = "\0"  # marks the place of a dropped line; no sentence with this mark survives
KEPT_DIRECTIVES = {"note", "warning", "tip", "important", "caution", "attention", "hint", "danger", "topic", "rubric"}
SKIPPED_SECTIONS = {
    "example", "examples", "see also", "references", "reference", "shape", "usage", "authors", "author", "index",
    "doctest", "tests", "aliases", "example usage", "routine listings", "sample usage", "bibliography", "links",
    "version history", "changelog",
}  # fmt: skip
ENTRY_SECTIONS = {
    "parameters", "returns", "return", "yields", "yield", "raises", "raise", "attributes", "other parameters",
    "methods", "warns", "receives", "args", "arguments", "keyword args", "keyword arguments", "keyword parameters",
    "inputs", "outputs", "properties", "options", "params", "input", "output", "kwargs", "throws", "fields",
    "optional parameters", "optional args", "members", "variables", "class attributes", "exceptions",
}  # fmt: skip

UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_<>])\1{2,}\s*$")
TABLE = re.compile(r"^[=\-+|:\s]{4,}$|^\|.*|^\+[-=]|\S(\s{3,}|\t+)\S.*\S(\s{3,}|\t+)\S|.*\s\|\s.*\s\|\s")
BULLET = re.compile(r"^([-*+•o]|#\.|\(?[0-9]{1,2}[.)]|\(?[a-zA-Z][)])\s+(?=\S)")
FIELD = re.compile(r"^[:@](\w+)\b[^:`]*:(?!\w+:?`)\s*")
GOOGLE_HEADER = re.compile(r"^([A-Z][a-z]+( [A-Za-z]+)?)::?$")
GOOGLE_ENTRY = re.compile(
    r"^[`*]{0,2}\w[\w.,* ]*[`*]{0,2}(\s*\([^()]*(\([^()]*\)[^()]*)*\)|\s*\[[^\]]*\])?((?<=[\w`*]):|(?<=[)\]])\s*:|\s--?)\s+(?=\S)"
)
NUMPY_ENTRY = re.compile(r"^[`*]{0,2}[\w.\\]+[`]{0,2}((, |/)\*{0,2}[\w.\\`]+)*\s*: ?\S|^\*{1,2}\w+$")
DEFINITION = re.compile(r"^(``?[^`]+``?|\*{1,2}[^*]+\*{1,2}|[\w.]+(\([^)]*\))?)\s+(--?|—|–|:|::|=)\s+(?=[A-Z])")


def clean(docstring: str) -> list[list[str]]:
    """Return the prose of a docstring as paragraphs, each a non-empty list of sentences."""
    found = (sentences(paragraph) for paragraph in paragraphs(docstring))
    return [kept for kept in found if kept]


class _Writer:
    """Collects lines into paragraphs, and knows how deep the lines of the open paragraph are indented."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.lines: list[str] = []
        self.indent = 0
        self.hanging = False  # a list entry: its further lines are indented deeper than its first

    def start(self, text: str, indent: int, hanging: bool = False) -> None:
        self.close()
        self.lines, self.indent, self.hanging = [text], indent, hanging

    def add(self, text: str, indent: int) -> None:
        continues = self.lines and (indent > self.indent if self.hanging else indent == self.indent)
        if continues:
            self.lines.append(text)
        else:
            self.start(text, indent)

    def cut(self) -> None:
        if self.lines:
            self.lines.append(CUT)

    def close(self) -> str:
        """End the open paragraph and return its text."""
        text = " ".join(self.lines)
        if text:
            self.done.append(text)
        self.lines = []
        return text


def paragraphs(docstring: str) -> list[str]:
    """Return the paragraphs of prose of a docstring, each on one line, with its inline markup still in place."""
    lines = [(len(line) - len(line.lstrip()), line.strip()) for line in inspect.cleandoc(docstring).splitlines()]
    writer = _Writer()
    for indent, text, in_entries, deeper in _prose_lines(lines, writer):
        _add_line(writer, indent, text, in_entries, deeper)
    writer.close()
    return writer.done


def _prose_lines(lines: list[tuple[int, str]], writer: _Writer) -> Iterator[tuple[int, str, bool, bool]]:
    """Yield (indent, text, inside a section of entries?, next line deeper?) of the lines outside code and titles."""
    skip_deeper_than: int | None = None
    skip_section = in_doctest = in_fence = in_entries = False
    entries_indent = 0
    for i, (indent, text) in enumerate(lines):
        next_indent, next_text = lines[i + 1] if i + 1 < len(lines) else (0, "")
        if text.startswith(("```", "~~~")):
            in_fence = not in_fence
            writer.close()
        elif in_fence:
            continue
        elif not text:
            in_doctest = False
            if writer.close().endswith("::"):
                skip_deeper_than = writer.indent
        elif UNDERLINE.match(text):
            writer.close()
        elif UNDERLINE.match(next_text) and len(next_text) >= 3 and not writer.lines:
            title = text.lower().rstrip(":")
            skip_section, in_entries, entries_indent = title in SKIPPED_SECTIONS, title in ENTRY_SECTIONS, indent - 1
            skip_deeper_than = None
        elif skip_section or (skip_deeper_than is not None and indent > skip_deeper_than):
            continue
        elif in_doctest or text.startswith((">>>", "$ ", "In [", "Out[")):
            in_doctest = True
            writer.cut()
        elif text.startswith(".. ") or text == "..":
            skip_deeper_than = _directive(writer, indent, text)
        elif GOOGLE_HEADER.match(text) and (next_indent > indent or not next_text):
            title = text.lower().rstrip(":")
            writer.close()
            in_entries, entries_indent = title in ENTRY_SECTIONS, indent
            skip_deeper_than = indent if title in SKIPPED_SECTIONS or text.endswith("::") else None
        else:
            skip_deeper_than = None
            in_entries = in_entries and indent > entries_indent
            yield indent, text, in_entries, bool(next_text) and next_indent > indent


def _directive(writer: _Writer, indent: int, text: str) -> int | None:
    """Close the paragraph before a directive or comment; return the indent below which its body is skipped."""
    writer.close()
    name, colons, rest = text[2:].strip().partition("::")
    if colons and name.lower() in KEPT_DIRECTIVES:
        if rest.strip() and name.lower() not in {"rubric", "topic"}:
            writer.start(rest.strip(), indent, hanging=True)
        return None
    return indent


def _add_line(writer: _Writer, indent: int, text: str, in_entries: bool, deeper: bool) -> None:
    """Add one line to the writer, without its bullet, field name or parameter name; drop tables and types."""
    field = FIELD.match(text)
    bullet = BULLET.match(text)
    if TABLE.match(text):
        writer.cut()
    elif field:
        drop = field[1].lower() in {"type", "rtype", "vartype", "author", "since"}
        writer.start(CUT if drop else text[field.end() :], indent, hanging=True)
    elif in_entries and (deeper or not writer.lines or writer.hanging) and GOOGLE_ENTRY.match(text):
        writer.start(GOOGLE_ENTRY.sub("", text, count=1), indent, hanging=True)
    elif NUMPY_ENTRY.match(text) and (deeper or in_entries):
        writer.close()
    elif bullet:
        writer.start(_without_definition(text[bullet.end() :]), indent, hanging=True)
    elif not writer.lines:
        writer.start(_without_definition(text), indent)
    else:
        writer.add(text, indent)


def _without_definition(text: str) -> str:
    """Return `name -- What it is` without its name."""
    return DEFINITION.sub("", text, count=1)


MARKUP = [
    (re.compile(r"\[[\w#*,\- ]*\]_+|\|[\w-]+\|_*"), CUT),  # footnotes, substitutions: see sentences()
    (re.compile(r":[\w:+-]+:`([^`<]*?)\s*<[^`>]*>`"), r"\1"),  # :role:`text <target>`
    (re.compile(r":math:`[^`]*`"), CUT),
    (re.compile(r":[\w:+-]+:`[!~]?([^`]*)`"), r"\1"),  # :role:`text`
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`_*"), r"\1"),  # `text <address>`_
    (re.compile(r"(?<!\w)\[([^\]]+)\]\([^)\s]*\)"), r"\1"),  # [text](address)
    (re.compile(r"``?([^`]*?)``?_*"), r"\1"),
    (re.compile(r"(?<![\w*])\*{1,2}(?=\S)([^*]+?)(?<=\S)\*{1,2}(?!\w)"), r"\1"),
    (re.compile(r"(?<=\w)\(\)"), ""),  # name() -> name
    (re.compile(r"\s+"), " "),
]
FOOTNOTE = re.compile(r"\s*\[[\w#*,\- ]*\]_")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|cf|vs|etc|viz|Fig|Eq|Sec|Ref|No|al|resp|approx|ca|Dr|Mr|St|[A-Z])\.$")
BOUNDARY = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[\"'(]*[A-Z])")
WHOLE = re.compile(r"^[\"'(]?[A-Z].*[\w)\"'][.!?][\"')]?$")
FOREIGN = re.compile(r"[^\w\s.,;:'\"()\-?!/%&’‘“”–—]|://|www\.|__|\.\.|--|::|\(\s*\)|\b[\w.-]+@|-\w+=|[^\x00-\x7f–—‘’“”]")
TOKEN = re.compile(r"[^\s]+")
WORD = re.compile(r"^[A-Z]?[a-z]+(?:['’][a-z]+)?(?:[-/][A-Za-z]?[a-z]+)*$|^[AI]$")
COMMON = frozenset(
    """a an the this that these those it its is are was were be been being has have had do does did can could will
    would should may might must shall not no nor and or but if then else when while where which who whose what how
    why as at by for from in into of off on onto out over to under up with without within between after before
    during until unless because since so such than there here each every any all some both either neither only
    also just very more most other another same own one two three you your we our they their them he his she her
    use used uses using return returns returned set sets get gets given new value values called default""".split()
)


def sentences(paragraph: str) -> list[str]:
    """Return the whole English sentences of a paragraph, without inline markup."""
    text = FOOTNOTE.sub("", paragraph)
    for pattern, replacement in MARKUP:
        text = pattern.sub(replacement, text)
    return [sentence for sentence in _split(text.strip()) if is_english(sentence)]


def _split(text: str) -> Iterator[str]:
    """Cut a text after each full stop, question or exclamation mark that ends a sentence."""
    start = 0
    for boundary in BOUNDARY.finditer(text):
        if not ABBREVIATION.search(text[start : boundary.start()]):
            yield text[start : boundary.end()].strip()
            start = boundary.end()
    yield text[start:].strip()


def is_english(sentence: str) -> bool:
    """Say whether this reads as a whole English sentence: its start, its end, and a majority of plain words."""
    if not WHOLE.match(sentence) or FOREIGN.search(sentence) or sentence.count("(") != sentence.count(")"):
        return False
    tokens = [token.strip(".,;:!?\"'()’‘“”") for token in TOKEN.findall(sentence)]
    tokens = [token for token in tokens if token]
    plain = sum(1 for token in tokens if WORD.match(token))
    common = sum(1 for token in tokens if token.lower() in COMMON)
    return len(tokens) >= 4 and plain >= 0.7 * len(tokens) and common >= max(1, 0.2 * len(tokens))
