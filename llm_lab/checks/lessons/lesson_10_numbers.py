"""Exercises of lesson 10, pretraining, first part: numbers before the run, and a fair comparison."""

from __future__ import annotations

import math

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.number import Number

INTRODUCTION = """\
# 10 - Pretraining: exercises

Nine exercises to [lesson 10](../notebooks/10_pretraining.ipynb). They climb, and none blocks the next. In the last one
you choose the recipe of a run, and the run is measured."""

# ----------------------------------------------------------------------------------------------------------- predict

SHARES = (1 / 2, 1 / 4, 1 / 8, 1 / 8)

PLATEAU = Number(
    id="10.plateau",
    title="The height of the plateau",
    task="""\
A language has four words. They make up 1/2, 1/4, 1/8 and 1/8 of its text. A masked model trains on it and sits on its
plateau: it does not read yet. Near which loss does it sit, in nats for one hidden word?""",
    why="With this number you can tell a plateau from a fault, before you look for one.",
    difficulty=1,
    minutes=2,
    first="section 3 says what a model answers on the plateau, whatever surrounds the blank. Write it down here.",
    hints=(
        "On the plateau the answer is the table of word frequencies, everywhere.",
        "A word that makes up the share p is hidden with probability p, and costs -ln p then.",
        "So add up p · (-ln p) over the four words: 1/2 · ln 2 + 1/4 · ln 4 and so on.",
    ),
    explanation="""\
The unigram line: 1/2 · ln 2 + 1/4 · ln 4 + 2 · 1/8 · ln 8 = 1.75 · ln 2 = 1.21 nats. Uniform guesses would pay
ln 4 = 1.39.""",
    truth=-sum(p * math.log(p) for p in SHARES),
    tolerance=0.01,
    look="What does the model answer on the plateau, and how often is each of the four words asked?",
    wrong=catalogue(f"""
# uniform
ln 4 is what it pays before the first step, when all words are alike to it. On the plateau it knows how often each
comes.
= {math.log(4):.4f}

# in bits
Those are bits. This course counts in nats: the natural logarithm.
= {-sum(p * math.log2(p) for p in SHARES)}

# always the likeliest word
You took the cost of the likeliest word alone. The others are hidden, too.
= {math.log(2):.4f}

# every word asked alike
You took the plain mean of the four costs. A frequent word is hidden more often than a rare one.
= {-sum(math.log(p) for p in SHARES) / 4:.4f}

# the logarithm of a mean
You took the mean of the probabilities first, and the logarithm after it. The loss is a mean of logarithms.
= {-math.log(sum(p * p for p in SHARES)):.4f}

# nothing is lost
A loss of 0 would mean that it knows every word.
= 0.0

# the rarest word
You took the cost of the rarest words alone.
= {math.log(8):.4f}
"""),
)

# ----------------------------------------------------------------------------------------------------------- predict

BEST, MODEL = (0.5, 0.5), (0.9, 0.1)

EXCESS = Number(
    id="10.excess",
    title="Too sure of herself",
    task="""\
At a blank of the known language the oracle, who knows the rules, gives *himself* 0.5 and *herself* 0.5. The model gives
0.9 and 0.1. How many nats above the floor is the model at this blank, on average over both words that may be
hidden?""",
    why="Sure of a word that chance decides: this is how a model pays that has learnt too much from too little.",
    difficulty=2,
    minutes=4,
    first="compute what the model pays if *himself* is hidden and if *herself* is, and how often each happens.",
    hints=(
        "Each word is hidden half of the time. The model pays -ln 0.9 or -ln 0.1.",
        "The oracle pays -ln 0.5 in both cases: that is the floor of this blank.",
        "The mean of the model's two costs, less the floor.",
    ),
    explanation="""\
The model pays (0.105 + 2.303) / 2 = 1.204 on average, the oracle 0.693. The excess is their difference, 0.511: the
Kullback-Leibler divergence from the best guess to the model's.""",
    truth=sum(p * math.log(p / q) for p, q in zip(BEST, MODEL, strict=True)),
    tolerance=0.01,
    look="What does the model pay on average, and what does the oracle pay?",
    wrong=catalogue(f"""
# the loss
That is what the model pays. How much of it nobody could have saved?
= {-sum(p * math.log(q) for p, q in zip(BEST, MODEL, strict=True)):.4f}

# the floor
That is what the oracle pays. How much more does the model pay?
= {math.log(2):.4f}

# weighed by the model
You weighed the two words by what the model believes. What is hidden is decided by the language: half and half.
= {sum(q * math.log(q / p) for p, q in zip(BEST, MODEL, strict=True)):.4f}

# the difference of the probabilities
Probabilities are not nats. Take the logarithms first, and then the difference.
= 0.4

# in bits
Those are bits. This course counts in nats.
= {sum(p * math.log2(p / q) for p, q in zip(BEST, MODEL, strict=True)):.4f}

# the lucky case
That is the case in which *himself* is hidden. A model can beat the oracle at one blank; on average it can't.
= {math.log(0.5 / 0.9):.4f}

# the unlucky case
That is the case in which *herself* is hidden. The other one happens as often.
= {math.log(0.5 / 0.1):.4f}

# luck and bad luck cancel
They do not: a small probability costs more than a large one saves.
= 0.0
"""),
)

# ---------------------------------------------------------------------------------------------------------- diagnose

FAIR = Choice(
    id="10.fair",
    title="A fair contest",
    task="""\
You want to know which of two architectures learns your text better in an evening. Both get 0.4 million parameters. On
your machine a step of A takes 20 ms, and one of B 60 ms. Which contest answers your question?""",
    why="Most tables that you will read are unfair in one of these ways.",
    difficulty=2,
    minutes=4,
    first="go through the rules of section 8, and mark for each statement which of them it breaks.",
    hints=(
        "The question says *in an evening*. What is the same for both then: steps or time?",
        "Is the learning rate that is best for A the one that is best for B?",
        "And how many runs does it take, before a difference is more than luck?",
    ),
    explanation="""\
Equal time: 600 steps of A are 12 seconds, and so are 200 of B. Each at its own best rate, since one rate for both
favours the one that it suits; and seeds, so that luck shows.""",
    choices={
        "a": "600 steps each, both at the rate 0.004, three seeds.",
        "b": "600 steps each, each at the best of four rates, three seeds.",
        "c": "600 steps of A and 200 of B, both at the rate 0.004, three seeds.",
        "d": "600 steps of A and 200 of B, each at the best of four rates, three seeds.",
        "e": "600 steps of A and 200 of B, each at the best of four rates; the better of the two best runs wins.",
        "f": "Each until its loss falls no more, at the best of four rates, three seeds.",
    },
    right="d",
    wrong=catalogue("""
# equal steps, one rate
B would compute three times as long as A, and one rate for both favours the one that it suits.
= a

# equal steps
Each at its best rate is right. But B would compute three times as long as A: that is not the same evening.
= b

# one rate for both
The time is fair. But the rate 0.004 suits one of them better: the contest would be decided by who chose it.
= c

# the best run
Time and rates are fair. But the better of two single runs may be the luckier one: look at several seeds of each.
= e

# to the end
That answers another question: who is better if time costs nothing. It may take B a week.
= f
"""),
)

EXERCISES = (PLATEAU, EXCESS, FAIR)
