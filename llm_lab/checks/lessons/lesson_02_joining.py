"""Exercises of lesson 02, text to tokens, first part: joining pairs, and replaying merges."""

from __future__ import annotations

from typing import Any

from llm_lab.checks import solutions
from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Mend
from llm_lab.checks.deck import Draw
from llm_lab.checks.number import Number

INTRODUCTION = """\
# 02 - Text to tokens: exercises

Seven exercises to [lesson 02](../notebooks/02_text_to_tokens.ipynb). They climb, and none blocks the next. Four of them
together are a tokenizer: join a pair, learn the merges, cut a word, score what comes out. The last asks for the best
vocabulary that 300 entries can hold."""

# ----------------------------------------------------------------------------------------------------------- predict

BANANA = Number(
    id="02.banana",
    title="How many merges make a banana?",
    task="""\
Byte-pair encoding starts from letters, on the text `banana banana`. After how many merges is the word one piece?
(Ties occur, but however they fall, the number is the same.)""",
    why="A vocabulary is its letters and its merges: each merge costs an entry, so count what one of them does.",
    difficulty=1,
    minutes=3,
    first="write `b a n a n a`, choose a most frequent pair, join it everywhere, and write the new line.",
    hints=(
        "One merge joins its pair at every place, in both words.",
        "`an` and `na` occur most often. Take `an`: the line becomes `b an an a`. Go on.",
        "After two more merges the line may be `b anana`. Count all merges, the last one too.",
    ),
    explanation="""\
For example `an`, `ana`, `anana`, `banana`: four. Six letters need five joins, but the first merge makes two of
them at once. With `na` first it is four as well.""",
    truth=4,
    tolerance=0.4,
    look="Write one line for each merge, from letters to the whole word, and count the steps between the lines.",
    wrong=catalogue("""
# every join counted
Six pieces become one by five joins. But one merge may join two places of a word at once.
= 5

# pieces that double
If every merge doubled the longest piece, so few would do. Does the word consist of two equal halves?
= 3

# the letters
That is the number of letters. Merges join; how many pieces are left after each?
= 6

# each word by itself
You count for both words. A merge is learnt once and joins its pair wherever it stands.
= 8

# every join in both words
You count five joins in each of two words. One merge makes several of these joins.
= 10

# one merge a word
A merge joins two neighbouring pieces, and not a whole word.
= 1
"""),
)

# -------------------------------------------------------------------------------------------------------------- mend

PIECES = ("a", "b", "ab", "ba", "aa", "bab")


def pieces_and_pair(draw: Draw) -> tuple[Any, ...]:
    """Pieces of a word, some of which hold others, and a pair that often occurs."""
    pair = draw.choice("a", "b", "ab"), draw.choice("a", "b", "ba")
    return [draw.choice(*pair, *PIECES) for _ in range(3 * draw.T)], pair


def a_row_of_one_letter(draw: Draw) -> tuple[Any, ...]:
    """Five times the same letter, and the pair of it."""
    return ["a"] * 5, ("a", "a")


def pieces_with_signs(draw: Draw) -> tuple[Any, ...]:
    """A full stop in the pair, and letters where a pattern would find one; then a plus sign."""
    left, right = draw.choice((".", "a"), ("a", "."), ("a+", "b"))
    return ["a", "a", left, right, "b", "a", "aa", "b", left, right, "a"], (left, right)


JOIN = Mend(
    id="02.join",
    title="A pair that joins too much",
    task="""\
`join(pieces, pair)` takes the pieces of a word, a list of strings, and a pair of pieces, a tuple of two. It
returns a new list, in which the pair is joined to one piece wherever its two pieces stand next to each other. From
left to right, each piece is used once: `["a", "a", "a"]` with the pair `("a", "a")` gives `["aa", "a"]`. The code
below is short, and right for many words. For `["in", "g"]` and the pair `("n", "g")` it gives `["ing"]`, although
there is no piece `n`. Mend it.""",
    why="This is the inner loop of byte-pair encoding, and this is its best-known bug.",
    difficulty=2,
    minutes=6,
    first="""run the code on `["in", "g"]`, and print the text in which it looks for the pair.""",
    hints=(
        """The code looks for letters, and a pair consists of pieces. How would you do it without making one text
        of them?""",
        "Walk along the list. At each place, are this piece and the next the pair? Then take both, else take one.",
        "A `while` loop with a place that moves on by two or by one; or a new list whose last piece may grow.",
    ),
    explanation="""\
In a text, the end of a longer piece looks like the pair's left piece, and the start of another like its right one.
Compared piece by piece, nothing can look like something else.""",
    stub="""
def join(pieces, pair):
    '''Join the pair wherever it occurs: join(["s", "i", "n", "g"], ("n", "g")) is ["s", "i", "ng"].'''
    text = " ".join(pieces)
    return text.replace(" ".join(pair), "".join(pair)).split(" ")
""",
    right=("join", "join_onto_the_last", "join_by_a_pattern"),
    inputs=pieces_and_pair,
    more=(a_row_of_one_letter, pieces_with_signs, pieces_with_signs),
    wrong=catalogue("""
# the end of a longer piece
The pair's left piece is found at the end of a longer one: `in g` becomes `ing` still.
of join_by_a_pattern
- (?<!\\S)
+

# the start of a longer piece
The pair's right piece is found at the start of a longer one: `n go` becomes `ngo`.
of join_by_a_pattern
- (?!\\S)
+

# the first place alone
Only the first place in the word is joined. In `banana` the pair `a n` occurs twice.
of join_by_a_pattern
- " ".join(pieces))
+ " ".join(pieces), count=1)

# a sign read as a pattern
In a pattern `.` is any letter and `+` repeats one, so pieces are joined that are not the pair's. `re.escape` takes a
text as it is.
of join_by_a_pattern
- left, right = map(re.escape, pair)
+ left, right = pair

# from the right
You begin at the end: `a a a` becomes `a aa`. The card reads from left to right.
def wrong(pieces, pair):
    turned = join([piece[::-1] for piece in pieces[::-1]], [piece[::-1] for piece in pair[::-1]])
    return [piece[::-1] for piece in turned[::-1]]

# the right piece stays
The pair is joined, and its right piece stands behind it once more. After a join, how many places must you move on?
- place += 2
+ place += 1

# one piece lost
After a join you leave out a piece that had no part in it. How many places does a pair take?
- place += 2
+ place += 3

# a place left out
You walk two places at a time, so a pair that begins at an odd place is never found.
def wrong(pieces, pair):
    joined = []
    for place in range(0, len(pieces), 2):
        two = pieces[place : place + 2]
        joined += ["".join(two)] if tuple(two) == tuple(pair) else two
    return joined

# in either order
You join the two pieces in either order. The pair `n g` is not the pair `g n`.
- tuple(pieces[place : place + 2]) == tuple(pair)
+ sorted(pieces[place : place + 2]) == sorted(pair)

# the pieces exchanged
The new piece has its parts in the wrong order.
- pieces[place] + pieces[place + 1]
+ pieces[place + 1] + pieces[place]

# the last piece lost
The last piece of the word is missing. Where does your loop end?
- place < len(pieces)
+ place < len(pieces) - 1

# nothing joined
You return the pieces as they were.
def wrong(pieces, pair):
    return list(pieces)
"""),
)

# ---------------------------------------------------------------------------------------------------------- diagnose

MERGES = "n g|i ng|s ing|k ing|o ng|r ing|s ong|i z|q u|song s|qu iz"  # of the lesson's tiny text


def two_cuts() -> None:
    """Print how two programs cut words with the same merges."""
    join = solutions.find("02", "join")
    print(f"{'word':11}{'the lesson':14}the colleague")
    for word in ("king", "song", "quizzing", "rings", "ringing", "singsong", "songsong"):
        right, other = list(word), list(word)
        for merge in MERGES.split("|"):
            right, other = join(right, tuple(merge.split())), _joined_once(other, merge.split())
        print(f"{word:11}{' '.join(right):14}{' '.join(other)}")


def _joined_once(pieces: list[str], pair: list[str]) -> list[str]:
    for place in range(len(pieces) - 1):
        if pieces[place : place + 2] == pair:
            return [*pieces[:place], "".join(pair), *pieces[place + 2 :]]
    return pieces


TWO_CUTS = Choice(
    id="02.two_cuts",
    title="A colleague's replay",
    task="""\
A colleague cuts words with the merges of the lesson's tiny text: `n g`, `i ng`, `s ing`, `k ing`, `o ng`, `r ing`,
`s ong`, `i z`, `q u`, `song s`, `qu iz`. The cell below prints some words as the lesson cuts them, and as the
colleague does. What is wrong with the colleague's program?""",
    why="""\
Most words come out right. A model trained with one program and used with the other meets strange pieces.""",
    difficulty=2,
    minutes=6,
    evidence=two_cuts,
    first="run the cell, and mark the words on which the two differ. What do these words have in common?",
    hints=(
        "The words that differ contain something twice, and their first half is right.",
        "Replay `ringing` on paper. At the first merge, `n g`, how many places are there?",
        "After the colleague's first merge, `ringing` is `r i ng i n g`. Which places were joined, and which were not?",
    ),
    explanation="""\
Each merge joins only the first place of a word. `ringing` becomes `r i ng i n g` at the first merge, and the
second `n g` is never met again.""",
    choices={
        "a": "The merges are replayed from the last to the first.",
        "b": "Only the first four merges are replayed.",
        "c": "The longest entry that fits at the start is taken, as WordPiece does.",
        "d": "Each merge joins only the first place where its pair stands.",
        "e": "Pairs that begin a word are not joined.",
        "f": "Nothing is wrong: ties may fall either way.",
    },
    right="d",
    wrong=catalogue("""
# the last merge first
Then `k ing` would be tried before there is an `ing`, and `king` could not come out whole.
= a

# four merges
After four merges `song` is still `s o ng`. What does the colleague make of it?
= b

# the longest entry
Try it on `ringing`: which entries fit, the longest first? The pieces would be those of the lesson.
= c

# pairs at the start of a word
Then `king` would not be whole: its last merge, `k ing`, begins the word.
= e

# a tie
A tie is decided while the merges are learnt. The list is the same for both programs.
= f
"""),
)

EXERCISES = (BANANA, JOIN, TWO_CUTS)
