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

VERSION = 3

CUT = "\0"  # marks the place of a dropped line; no sentence with this mark survives
KEPT_DIRECTIVES = {"note", "warning", "tip", "important", "caution", "attention", "hint", "danger"}
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
DOCTEST = (">>>", "$ ", "In [", "Out[")
BULLET = re.compile(r"^([-*+•o]|#\.|\(?[0-9]{1,2}[.)]|\(?[a-zA-Z][)])\s+(?=\S)")
FIELD = re.compile(r"^[:@](\w+)\b[^:`]*:(?!\w+:?`)\s*")  # :param x: and its like
GOOGLE_HEADER = re.compile(r"^([A-Z][a-z]+( [A-Za-z]+)?)::?$")  # Args:
BRACKETS = r"(\s*\([^()]*(\([^()]*\)[^()]*)*\)|\s*\[[^\]]*\])?"
GOOGLE_ENTRY = re.compile(
    r"^[`*]{0,2}\w[\w.,* ]*[`*]{0,2}" + BRACKETS + r"((?<=[\w`*]):|(?<=[)\]])\s*:|\s--?)\s+(?=\S)"
)  # x (int): the text
NUMPY_ENTRY = re.compile(r"^[`*]{0,2}[\w.\\]+[`]{0,2}((, |/)\*{0,2}[\w.\\`]+)*\s*: ?\S|^\*{1,2}\w+$")  # x : int
DEFINITION = re.compile(r"^(``?[^`]+``?|\*{1,2}[^*]+\*{1,2}|[\w.]+(\([^)]*\))?)\s+(--?|—|–|:|::|=)\s+(?=[A-Z])")


def clean(docstring: str) -> list[list[str]]:
    """Return the prose of a docstring as paragraphs, each a non-empty list of sentences."""
    found = (sentences(paragraph) for paragraph in paragraphs(docstring))
    return [kept for kept in found if kept]


def paragraphs(docstring: str) -> list[str]:
    """Return the paragraphs of prose of a docstring, each on one line, with its inline markup still in place."""
    lines = [(len(line) - len(line.lstrip()), line.strip()) for line in inspect.cleandoc(docstring).splitlines()]
    walk = _Walk()
    for (indent, text), (next_indent, next_text) in zip(lines, [*lines[1:], (0, "")], strict=False):
        if not walk.is_code(indent, text) and not walk.is_title(indent, text, next_indent, next_text):
            walk.add(indent, text, deeper=bool(next_text) and next_indent > indent)
    return walk.finished()


class _Walk:
    """A walk through the lines of a docstring that collects paragraphs and knows what to leave out."""

    def __init__(self) -> None:
        self.paragraphs: list[str] = []
        self.lines: list[str] = []  # of the open paragraph
        self.indent = 0  # of the open paragraph
        self.hanging = False  # the open paragraph is a list entry: its further lines are deeper than its first
        self.in_fence = self.in_doctest = self.skips_section = False
        self.skip_deeper_than: int | None = None  # the body of a directive or of a literal block
        self.entries_below: int | None = None  # inside a section of parameters: its lines are deeper than this
        self.names_at: int | None = None  # inside such a section of NumPy's style: where the names stand

    def finished(self) -> list[str]:
        self.close()
        return self.paragraphs

    def is_code(self, indent: int, text: str) -> bool:
        """Say whether a line is blank or belongs to code, a directive or a section without prose."""
        if text.startswith(("```", "~~~")):
            self.in_fence = not self.in_fence
            self.close()
        elif self.in_fence:
            pass
        elif not text:
            self.in_doctest = False
            if self.close().endswith("::"):
                self.skip_deeper_than = self.indent
        elif self.skip_deeper_than is not None and indent > self.skip_deeper_than:
            pass
        elif self.in_doctest or text.startswith(DOCTEST):
            self.in_doctest = True
            self.cut()
        elif text.startswith(".. ") or text == "..":
            self.directive(indent, text)
        else:
            self.skip_deeper_than = None
            return False
        return True

    def directive(self, indent: int, text: str) -> None:
        """Start the text of a note or warning; skip the body of any other directive and of a comment."""
        self.close()
        name, colons, rest = text[2:].strip().partition("::")
        if not colons or name.lower() not in KEPT_DIRECTIVES:
            self.skip_deeper_than = indent
        elif rest.strip():
            self.start(rest.strip(), indent, hanging=True)

    def is_title(self, indent: int, text: str, next_indent: int, next_text: str) -> bool:
        """Say whether a line is a title or its underline, or stands in a section that is skipped."""
        title = text.lower().rstrip(":")
        if UNDERLINE.match(text):
            self.close()
        elif UNDERLINE.match(next_text) and not self.lines:
            self.skips_section = title in SKIPPED_SECTIONS
            self.enter(indent - 1 if title in ENTRY_SECTIONS else None, names_at=indent)
        elif self.skips_section:
            pass
        elif GOOGLE_HEADER.match(text) and (next_indent > indent or not next_text):
            self.close()
            self.enter(indent if title in ENTRY_SECTIONS else None, names_at=None)
            self.skip_deeper_than = indent if title in SKIPPED_SECTIONS or text.endswith("::") else None
        else:
            return False
        return True

    def enter(self, entries_below: int | None, names_at: int | None) -> None:
        self.entries_below, self.names_at = entries_below, names_at

    def add(self, indent: int, text: str, deeper: bool) -> None:
        """Add a line without its bullet, field or parameter name; leave out tables, signatures and types."""
        if self.entries_below is not None and indent <= self.entries_below:
            self.enter(None, None)
        in_entries = self.entries_below is not None
        starts = not self.lines or self.hanging or deeper
        field, bullet = FIELD.match(text), BULLET.match(text)
        if TABLE.match(text):
            self.cut()
        elif field:
            drop = field[1].lower() in {"type", "rtype", "vartype", "author", "since"}
            self.start(CUT if drop else text[field.end() :], indent, hanging=True)
        elif in_entries and self.names_at is None and starts and GOOGLE_ENTRY.match(text):
            self.start(GOOGLE_ENTRY.sub("", text, count=1), indent, hanging=True)
        elif deeper and (NUMPY_ENTRY.match(text) or (in_entries and indent == self.names_at)):
            self.close()
        elif in_entries and NUMPY_ENTRY.match(text):
            self.close()
        elif bullet:
            self.start(DEFINITION.sub("", text[bullet.end() :], count=1), indent, hanging=True)
        elif not self.lines:
            self.start(DEFINITION.sub("", text, count=1), indent)
        else:
            self.go_on(indent, text)

    def go_on(self, indent: int, text: str) -> None:
        """Continue the open paragraph, or start another where the indentation says so."""
        unfinished = not self.hanging and self.lines[-1][-1] not in ".:!?" and len(self.lines[-1]) > 30
        continues = indent > self.indent if self.hanging else indent == self.indent
        if continues or (unfinished and indent > self.indent):
            self.lines.append(text)
        else:
            self.start(CUT + text if unfinished else text, indent)

    def start(self, text: str, indent: int, hanging: bool = False) -> None:
        self.close()
        self.lines, self.indent, self.hanging = [text], indent, hanging

    def cut(self) -> None:
        """Mark a dropped line inside a paragraph."""
        if self.lines:
            self.lines.append(CUT)

    def close(self) -> str:
        """End the open paragraph and return its text."""
        text = " ".join(self.lines)
        if text:
            self.paragraphs.append(text)
        self.lines = []
        return text


REFERRING = r"(?:\b(?:in|of|by|from|see|to|and|or|with|for|than|at|refs?|eq)\.?|[,(])"
MARKUP = [
    (re.compile(REFERRING + r"\s*\[[\w#*,\- ]*\]_", re.IGNORECASE), CUT),  # "as in [1]_": a hole without it
    (re.compile(r"\s*\[[\w#*,\- ]*\]_"), ""),  # a footnote that no word depends on
    (re.compile(r"\|[\w-]+\|_*|:(?:math|cite\w*|footcite\w*):`[^`]*`"), CUT),
    (re.compile(r":[\w:+-]+:`([^`<]*?)\s*<[^`>]*>`"), r"\1"),  # :role:`text <target>`
    (re.compile(r":[\w:+-]+:`[!~.]*([^`]*)`"), r"\1"),  # :role:`text`
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`_*"), r"\1"),  # `text <address>`_
    (re.compile(r"(?<!\w)!?\[([^\]]+)\]\([^)\s]*\)"), r"\1"),  # [text](address)
    (re.compile(r"``([^`]*?)``"), r"\1"),
    (re.compile(r"`[!~.]*([^`]*?)`_*"), r"\1"),
    (re.compile(r"(?<![\w*])\*{1,2}(?=\S)([^*]+?)(?<=\S)\*{1,2}(?!\w)"), r"\1"),
]
MARKED = re.compile(r"[`*\[|]")
TIDY = [
    (re.compile(r"(?<=\w)\(\)"), ""),  # name() -> name
    (re.compile(r"(?<=[a-z])([-/]) (?=[a-z]{3})(?!and |or )"), r"\1"),  # a word that was cut at the end of a line
    (re.compile(r"\s+"), " "),
]
TYPOGRAPHY = str.maketrans("‘’“”–—", "''\"\"--")
ABBREVIATION = re.compile(
    r"\b(e\.?g|i\.?e|cf|vs|etc|viz|wrt|w\.r\.t|[Ff]ig|[Ee]qs?|[Ss]ec|[Rr]efs?|No|Vol|pp|al|resp|approx|ca|Drs?|Mrs?"
    r"|St|[A-Z])\.$"
)
BOUNDARY = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[\"'(]*[A-Z])")
LABEL = re.compile(r"^(?:[A-Za-z][\w./-]*(?: [\w./-]+){0,3} ?:|\(\w[^()]*\):|NOTE|NB)\s+(?=[A-Z\"(])")
WHOLE = re.compile(r"^[\"'(]?[A-Z].*[\w)\"'][.!?][\"')]?$")
UNCLEAN = [
    re.compile(r"[^\w\s.,;:'\"()\-?!/%&]|[^\x00-\x7f]"),  # symbols: code, formulas, markup, other alphabets
    re.compile(r"--|__|\.\.|::|:/|\s:\w|^:|www\.|,\)|\w'\w*\(|\([,\s)]|\s\)"),  # code
    re.compile(r"(?<!\d)%|(?<!\w)[/&]|[/&](?!\w)|\b[a-z]+/\w+/\w+/|\s-[a-zA-Z]"),  # magics, paths, flags
    re.compile(r"\s[.,;:!?](\s|$)|[a-z][,;:][A-Z][a-z]"),  # punctuation with a hole before it, or none after it
    re.compile(r"[\w)\"'] (The|An|If|This|It|When|Returns|Whether|Defaults?|Optional|See|For) (?!['\"])"),  # glued
    re.compile(r"^(TODO|FIXME|XXX|HACK|ACCEPTS|Usage|Signature)\b| - [A-Z]|^\(.*[^.!?)\"'][.!?]?$|^\([^()]*\) ?\w"),
    re.compile(r"\b(New|Added|Changed|Deprecated|Removed) (in|at|since) (version )?\d"),
    re.compile(r"\b(e\.?g|i\.?e|cf|resp|vs|viz|Eqs?|Fig|Sec|and|or|the|an|than|[Ss]ee)[.!?]$"),  # cut short
    re.compile(r"\b(the|of|in|by|from|see|with|for|than|to) (and|or|for|of|is|are|by|in) (for|the|more|a)\b", re.I),
]
FRAGMENT = re.compile(  # "If x is negative.": an entry of a Raises section, with no main clause
    r"^(If|When|Because|Unless|While|Although|Since|Whenever|As)\b(?!.*(, (?!['\"\w.]+(, | and | or ))| then ))"
)
MAIN_VERB = re.compile(
    r"\b(returns?|returned|raises?|raised|used?|will|must|should|can|may|do|does|set|call|assumed|ignored)\b"
)
WORD = re.compile(r"^[A-Z]?[a-z]+(?:['’][a-z]+)?(?:[-/][A-Za-z]?[a-z]+)*$|^[A-Z]{1,6}s?$")
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
    text = paragraph.translate(TYPOGRAPHY)
    for pattern, replacement in MARKUP + TIDY if MARKED.search(text) else TIDY:
        text = pattern.sub(replacement, text)
    found = (LABEL.sub("", sentence, count=1) for sentence in _split(text.strip()))
    return [sentence for sentence in found if is_english(sentence)]


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
    if not WHOLE.match(sentence) or any(pattern.search(sentence) for pattern in UNCLEAN):
        return False
    if sentence.count("(") != sentence.count(")") or sentence.count('"') % 2:
        return False
    if FRAGMENT.match(sentence) and not MAIN_VERB.search(sentence):
        return False
    tokens = [token.strip(".,;:!?\"'()") for token in sentence.split()]
    tokens = [token for token in tokens if token]
    plain = len([token for token in tokens if WORD.match(token)])
    common = len([token for token in tokens if token.lower() in COMMON])
    return len(tokens) >= 4 and plain >= 0.7 * len(tokens) and common >= max(1, 0.2 * len(tokens))
