"""The words and the rules of the hard language: a small English with long dependencies.

A class of noun phrases is a kind and a number: `ms` and `fs` a man and a woman (nouns such as "judge" are in both),
`hp` people, `as` and `ap` animals, `ds` and `dp` dishes, `ts` and `tp` texts, `vs` and `vp` vehicles, `ps` and `pp`
places. Subject and verb share the class, so number, gender and what goes with what travel through the rules, however
far apart they stand.
No noun and no adjective begins with a vowel: "a" fits all.
"""

from __future__ import annotations

from collections.abc import Iterator

CLASSES = ("ms", "fs", "hp", "as", "ap", "ds", "dp", "ts", "tp", "vs", "vp", "ps", "pp")

# Lexemes: singular/plural, or one form for both. The first of a list is the most frequent.
NOUNS = {
    "m": "king/kings boy/boys monk/monks",
    "f": "queen/queens girl/girls nun/nuns",
    "x": "teacher/teachers farmer/farmers judge/judges guard/guards nurse/nurses cook/cooks",  # of either gender
    "a": "dog/dogs cat/cats fish horse/horses sheep duck/ducks fly/flies",
    "d": "cake/cakes pie/pies soup/soups pear/pears",
    "t": "book/books letter/letters report/reports poem/poems",
    "v": "car/cars train/trains boat/boats ship/ships",
    "p": "house/houses garden/gardens park/parks river/rivers forest/forests",
}
VERBS = {
    "Vi.h": "sings/sing dances/dance laughs/laugh works/work prays/pray",
    "Vi.b": "sleeps/sleep runs/run waits/wait",  # people and animals
    "Vi.a": "jumps/jump flies/fly growls/growl ducks/duck",
    "Vi.d": "smells/smell cools/cool",
    "Vi.o": "falls/fall vanishes/vanish",  # things
    "Vi.v": "stops/stop rolls/roll",
    "See": "sees/see loves/love helps/help praises/praise guards/guard trains/train judges/judge nurses/nurse",
    "Chase": "chases/chase follows/follow bites/bite fears/fear",
    "Eat": "eats/eat tastes/taste smells/smell",
    "Make": "bakes/bake cooks/cook",
    "Read": "reads/read writes/write copies/copy",
    "Drive": "drives/drive parks/park washes/wash",
    "Say": "knows/know thinks/think hopes/hope reports/report",
    "Please": "pleases/please bores/bore helps/help",
    "Carry": "carries/carry passes/pass",
}
DETERMINERS = "the/the a/two this/these every/many"
OTHER_WORDS = {
    "Trait": "young happy proud tired brave wise",
    "Size": "big small",
    "Colour": "black white red green",
    "Adverb": "often quickly gladly quietly today again",
    "Prep": "near behind beside",
    "Rel.h": "who that",
    "That": "that",
    "And": "and",
    "Either": "either",
    "Or": "or",
    "If": "if",
    "Then": "then",
    "Stop": ".",
    "Self.ms": "himself",
    "Self.fs": "herself",
    "Self.as": "itself",
    "Self.hp": "themselves",
    "Self.ap": "themselves",
}

SENTENCES = """
Root -> Whole Stop
Whole -> Clause 72 | EitherC OrC 14 | IfC ThenC 14
EitherC -> Either Clause
OrC -> Or Clause
IfC -> If Clause
ThenC -> Then Clause
Clause -> NP.ms VP.ms 17 | NP.fs VP.fs 17 | NP.hp VP.hp 22 | NP.as VP.as 11 | NP.ap VP.ap 11
Clause -> NP.ds VP.ds 3 | NP.dp VP.dp 3 | NP.ts VP.ts 4 | NP.tp VP.tp 4 | NP.vs VP.vs 4 | NP.vp VP.vp 4
ThatC -> That Clause
PP -> Prep Landmark
Landmark -> Place 50 | Animate 32 | Vehicle 18
Person -> NP.ms 28 | NP.fs 28 | NP.hp 44
Animate -> NP.ms 18 | NP.fs 18 | NP.hp 28 | NP.as 18 | NP.ap 18
Dish -> NP.ds 55 | NP.dp 45
Text -> NP.ts 55 | NP.tp 45
Vehicle -> NP.vs 55 | NP.vp 45
Place -> NP.ps 55 | NP.pp 45
Freight -> Animate 60 | Dish 40
Gap.h -> NP.ms See.s 22 | NP.fs See.s 22 | NP.hp See.p 30 | NP.as Chase.s 13 | NP.ap Chase.p 13
Gap.d -> NP.ms Make.s 20 | NP.fs Make.s 20 | NP.hp Make.p 25 | NP.hp Eat.p 15 | NP.as Eat.s 10 | NP.ap Eat.p 10
Gap.t -> NP.ms Read.s 30 | NP.fs Read.s 30 | NP.hp Read.p 40
Gap.v -> NP.ms Drive.s 30 | NP.fs Drive.s 30 | NP.hp Drive.p 40
"""  # Gap.x: a clause that lacks its object, as in "the cake that | the nuns bake"

NOUN_PHRASES = """
NP.C -> Core.C 64 | Core.C PP 17 | Core.C RC.C 14 | Long.C RC.C 5
Long.C -> Core.C PP
Core.C -> Det.N Nbar.C
"""  # C: a class, N: its number

COORDINATION = """
VP1.C -> VPi.C 45 | VPt.C 55
VP.C -> VP1.C 58 | VP1.C Adverb 14 | VP1.C PP 12 | VPi.C AndVP.C 11 | EitherVP.C OrVP.C 5
AndVP.C -> And VPt.C
EitherVP.C -> Either VPi.C
OrVP.C -> Or VPt.C
"""  # of an intransitive and a transitive phrase, so that nobody "sleeps and sleeps"

BY_KIND = {
    "h": """
Nbar.C -> Noun.C 72 | Trait Noun.C 28
RC.C -> Rel.h VP1.C 50 | Rel.h Gap.h 50
VPi.C -> Vi.h.N 60 | Vi.b.N 40
VPt.C -> See.N Animate 26 | See.N Self.C 20 | Eat.N Dish 8 | Make.N Dish 10
VPt.C -> Read.N Text 15 | Drive.N Vehicle 11 | Say.N ThatC 10
""",
    "a": """
Nbar.C -> Noun.C 60 | Size Noun.C 15 | Colour Noun.C 15 | Size Dyed.C 10
Dyed.C -> Colour Noun.C
RC.C -> That VP1.C 50 | That Gap.h 50
VPi.C -> Vi.a.N 55 | Vi.b.N 45
VPt.C -> Chase.N Animate 52 | Chase.N Self.C 22 | Eat.N Dish 26
""",
    "d": """
Nbar.C -> Noun.C 70 | Size Noun.C 30
RC.C -> That VP1.C 30 | That Gap.d 70
VP.C -> VP1.C 75 | VP1.C Adverb 10 | VP1.C PP 15
VP1.C -> Vi.d.N 60 | Vi.o.N 40
""",
    "t": """
Nbar.C -> Noun.C 70 | Size Noun.C 30
RC.C -> That VP1.C 40 | That Gap.t 60
VPi.C -> Vi.o.N
VPt.C -> Please.N Person
""",
    "v": """
Nbar.C -> Noun.C 55 | Size Noun.C 15 | Colour Noun.C 20 | Size Dyed.C 10
Dyed.C -> Colour Noun.C
RC.C -> That VP1.C 40 | That Gap.v 60
VPi.C -> Vi.v.N 70 | Vi.o.N 30
VPt.C -> Carry.N Freight
""",
}

PLACES = """
NP.C -> Core.C 82 | Core.C PP 18
Core.C -> Det.N Nbar.C
Nbar.C -> Noun.C 70 | Size Noun.C 30
"""

Rule = tuple[str, tuple[str, ...], float]  # parent, children, weight


def rules() -> Iterator[Rule]:
    """All rules of the grammar, the classes filled in; weights are relative among the rules of one parent."""
    yield from _parse(SENTENCES)
    for name in CLASSES:
        kind = "h" if name in ("ms", "fs", "hp") else name[0]
        text = PLACES if kind == "p" else NOUN_PHRASES + BY_KIND[kind] + COORDINATION * (kind not in "dp")
        yield from _parse(text.replace(".C", f".{name}").replace(".N", f".{name[1]}"))


def _parse(text: str) -> Iterator[Rule]:
    for line in filter(None, text.splitlines()):
        parent, _, choices = line.partition(" -> ")
        for choice in choices.split(" | "):
            *children, weight = choice.split() if choice[-1].isdigit() else (*choice.split(), "1")
            yield parent, tuple(children), float(weight)


def lexemes() -> dict[str, list[tuple[str, str]]]:
    """Families of words that share a role: (singular, plural) of each lexeme, most frequent first.

    A family is what a seed may shuffle: after it, sentences are still English.
    """
    families = {"Det": DETERMINERS, **{f"Noun.{kind}": words for kind, words in NOUNS.items()}, **VERBS}
    pairs = {name: [forms(lexeme) for lexeme in words.split()] for name, words in families.items()}
    return pairs | {name: [(word, word) for word in words.split()] for name, words in OTHER_WORDS.items()}


def forms(lexeme: str) -> tuple[str, str]:
    """(singular, plural) of a lexeme: "fox/foxes", or "fish", which has one form for both."""
    singular, _, plural = lexeme.partition("/")
    return singular, plural or singular


def categories() -> Iterator[tuple[str, str, int]]:
    """(category, family, form) of each category that emits words: form 0 is the singular, 1 the plural."""
    for number, form in (("s", 0), ("p", 1)):
        yield f"Det.{number}", "Det", form
        for frame in VERBS:
            yield f"{frame}.{number}", frame, form
    for name in CLASSES:
        kinds = {"ms": "mx", "fs": "fx", "hp": "mfx"}.get(name, name[0])
        for kind in kinds:
            yield f"Noun.{name}", f"Noun.{kind}", 0 if name[1] == "s" else 1
    for name in OTHER_WORDS:
        yield name, name, 0
