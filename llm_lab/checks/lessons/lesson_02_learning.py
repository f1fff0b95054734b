"""Exercises of lesson 02, text to tokens, second part: learning merges, and what a loss is worth in bytes."""

from __future__ import annotations

from typing import Any

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw

# ------------------------------------------------------------------------------------------------------------- write


def text_to_learn_from(draw: Draw) -> tuple[Any, ...]:
    """A text of a few letters, in which words repeat, pairs tie and letters double; and how many merges to learn."""
    letters = draw.choice("ab", "abc", "aab", "nabx")
    words = [_word(draw, letters) for _ in range(draw.T + 2)]
    text = " ".join(draw.choice(*words) for _ in range(3 * draw.T + 1))
    return text, draw.choice(1, 2, 3, 5, 8, 30)


def _word(draw: Draw, letters: str) -> str:
    return "".join(draw.choice(*letters) for _ in range(int(draw.integers(1, 7, 1))))


def short_words(draw: Draw) -> tuple[Any, ...]:
    """Words of one letter hold no pair at all."""
    return "a b a c b a", 3


LEARN_MERGES = Write(
    id="02.learn_merges",
    title="Byte-pair encoding",
    task="""\
Write `learn_merges(text, num_merges)`. `text` is one string; its words are what `text.split()` gives. Start from
letters, and learn `num_merges` merges, or fewer if no pair is left. Each time, count every place of the running
text where two pieces of a word stand next to each other (`a a a` holds the pair `a a` twice); take the pair with
the largest count, and join it everywhere, from left to right. Of equal pairs take the one that Python sorts first:
`("a", "n")` comes before `("n", "a")`. Return the list of pairs, each a tuple of two strings, in the order in
which they were learnt. (The lesson's rule for ties is another one. Your `join` from above will serve you.)""",
    why="It made the vocabulary of GPT-2 and, as section 5 of the lesson shows, that of our own models.",
    difficulty=4,
    minutes=25,
    first="""\
write the count alone: for `sing sing king`, which pairs are there, and how often? `n g` occurs three times.""",
    hints=(
        "Three parts in a loop: count the pairs, choose one, join it in all words.",
        """Keep a dictionary from each different word to its pieces, and count each pair as often as its word
        occurs. `Counter(text.split())` gives that number.""",
        "`min(pairs, key=lambda pair: (-pairs[pair], pair))` is the most frequent pair, and of equal ones the first.",
    ),
    explanation="""\
Words count as often as they occur, so that each different word is split only once. The loop ends early when every
word is one piece.""",
    setup="from collections import Counter",
    stub="""
def learn_merges(text, num_merges):
    '''The merges of byte-pair encoding, in order: learn_merges("sing sing king", 1) is [("n", "g")].'''
    raise NotImplementedError
""",
    right=("learn_merges", "learn_merges_in_running_text"),
    inputs=text_to_learn_from,
    more=(short_words,),
    wrong=catalogue("""
# the rarest pair
You take the pair with the smallest count. Frequent pairs shall become pieces.
- (-pairs[pair], pair)
+ (pairs[pair], pair)

# ties: the first that was met
Of equal pairs you take the one that you met first, as `max` and `most_common` do. The card has another rule.
- min(pairs, key=lambda pair: (-pairs[pair], pair))
+ max(pairs, key=pairs.get)

# ties: the rule of the lesson
Of equal pairs you take the one whose pieces were made first. That is the library's rule, and the lesson's. The card
has a simpler one.
- splits, merges = {word: list(word) for word in words}, []
+ splits, merges = {word: list(word) for word in words}, []
+     number = {letter: i for i, letter in enumerate(sorted(set(text)))}
- (-pairs[pair], pair)
+ (-pairs[pair], number[pair[0]], number[pair[1]])
- merges.append(best)
+ merges.append(best)
+         number.setdefault("".join(best), len(number))

# ties: the last in order
Of equal pairs you take the one that Python sorts last. Watch the sign of both parts of a key.
- min(pairs, key=lambda pair: (-pairs[pair], pair))
+ max(pairs, key=lambda pair: (pairs[pair], pair))

# each word counted once
A word that occurs a hundred times counts as one that occurs once. It is the running text that is counted.
- += count
+ += 1

# words run together
The last letter of a word and the first of the next make a pair in your count. A pair never crosses a space.
- Counter(text.split())
+ Counter(["".join(text.split())])

# the space is a piece
Your pairs contain spaces. A pair never crosses a space, so a space is in no pair.
- Counter(text.split())
+ Counter([text])

# nothing is ever joined
The pairs are the most frequent ones of *letters*. After the first merge there are other pieces, and other counts.
def wrong(text, num_merges):
    pairs = Counter()
    for word in text.split():
        pairs.update(zip(word, word[1:]))
    return sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:num_merges]

# only the first place of a word
You join a pair once in each word. `banana` holds `a n` twice.
of learn_merges_in_running_text
- [join_onto_the_last(pieces, merges[-1]) for pieces in running]
+ [
+             re.sub(r"(?<!\\S)%s %s(?!\\S)" % merges[-1], "".join(merges[-1]), " ".join(pieces), count=1).split(" ")
+             for pieces in running
+         ]

# overlaps left out
In `a a a` you count the pair `a a` once. The card counts every place where two pieces are neighbours.
of learn_merges_in_running_text
- often = Counter(found)
+ often = {pair: sum(len(pieces) - len(join(pieces, pair)) for pieces in running) for pair in found}

# once in a word
A pair that stands twice in a word counts once. Count places, and not words.
- zip(splits[word], splits[word][1:], strict=False)
+ set(zip(splits[word], splits[word][1:]))

# pairs that occur once are left
You stop when no pair occurs twice. The card goes on until no pair is left.
- if not pairs:
+ if not pairs or max(pairs.values()) < 2:

# the score of WordPiece
You divide the count of a pair by the counts of its parts. That is the score of section 5; here the count alone
decides.
of learn_merges_in_running_text
- often = Counter(found)
+ parts = Counter(piece for pieces in running for piece in pieces)
+         often = {pair: found.count(pair) / parts[pair[0]] / parts[pair[1]] for pair in found}

# joined pieces returned
You return the new pieces. The two halves can't be told from `ing`: return the pairs.
- return merges
+ return ["".join(pair) for pair in merges]

# one merge too many
You learn one merge more than was asked for. Look at < and <=.
- len(merges) < num
+ len(merges) <= num

# the first merge alone
You learn only one merge. Does a `return` stand inside of the loop?
- len(merges) < num_merges
+ len(merges) < 1
"""),
)

# ------------------------------------------------------------------------------------------------------------- write

WORDS = ("the", "cat", "sat", "猫", "下雨", "naïve", "café", "α", "ß", "😀", "a")


def losses_and_text(draw: Draw) -> tuple[Any, ...]:
    """The loss of each token, (N,), and a text in which a letter may take one byte, two, three or four."""
    text = " ".join(draw.choice(*WORDS) for _ in range(draw.T))
    return 9 * draw.uniform(draw.T + draw.B) + 0.1, text


BITS_A_BYTE = Write(
    id="02.bits_a_byte",
    title="A loss that others can compare",
    task="""\
Write `bits_a_byte(nats, text)`. `nats` is a tensor (N,): the loss of each of the N tokens of a text, in nats.
`text` is that text, a string, whose letters may be of any script. Return bits per byte, a number: how many bits
the model pays for each byte of the text in UTF-8, on average.""",
    why="Losses a token can't be compared between vocabularies. This one can: section 10 of the lesson.",
    difficulty=2,
    minutes=6,
    first='find out how many bytes there are: `len("猫".encode())` is 3, and `len("猫")` is 1.',
    hints=(
        "The whole text costs the sum of the losses. In which unit, and in which is it wanted?",
        "One bit is ln 2 nats: dividing by ln 2 turns nats into bits.",
        "Sum, divided by ln 2, divided by the number of bytes of `text.encode()`.",
    ),
    explanation="""\
The same as the lesson's formula: the mean loss in bits, times tokens per byte. The number of tokens cancels, which
is the point of it.""",
    setup="import math",
    stub="""
def bits_a_byte(nats, text):
    '''Bits per byte: the losses of all tokens (N,), in nats, and the text as a string -> a number.'''
    raise NotImplementedError
""",
    right=("bits_a_byte", "bits_a_byte_by_adding", "bits_a_byte_of_the_package"),
    inputs=losses_and_text,
    wrong=catalogue("""
# letters in place of bytes
You divide by the number of letters. A Chinese sign has three bytes, an accented letter two.
- len(text.encode())
+ len(text)

# nats a byte
Your unit is still the nat. How many nats are a bit?
- / math.log(2)
+

# nats and bits exchanged
You multiply by ln 2. A bit is less than a nat, so there are more bits than nats.
- / math.log(2)
+ * math.log(2)

# the mean of the tokens
You take the mean loss of a token, and divide it by all bytes: the tokens are divided out twice.
- nats.sum()
+ nats.mean()

# bits a token
That is the mean of the tokens, in bits. It depends on how the text was cut.
- len(text.encode())
+ len(nats)

# bytes a bit
The fraction is upside down: how many bits does a byte cost?
- return nats.sum().item() / math.log(2) / len(text.encode())
+ return len(text.encode()) / (nats.sum().item() / math.log(2))

# bits a word
You divide by the number of words. A language without spaces has none.
- len(text.encode())
+ len(text.split())

# eight bits in a byte
You divide by eight once more. A byte has eight bits of memory; here the bits are a price, paid for each byte.
- len(text.encode())
+ len(text.encode()) / 8

# spaces left out
You leave out the spaces. They are bytes of the text like all others.
- text.encode()
+ text.replace(" ", "").encode()

# decimal logarithm
You divide by the logarithm of 2 to base 10. A loss in nats is counted with ln.
- math.log(2)
+ math.log10(2)
"""),
)

EXERCISES = (LEARN_MERGES, BITS_A_BYTE)
