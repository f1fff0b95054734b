"""Exercises of lesson 08, the Transformer encoder, first part: norms on paper, counts, and a deep stack."""

from __future__ import annotations

import math
from typing import Any

import torch

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw
from llm_lab.checks.number import Number
from llm_lab.config import ModelConfig
from llm_lab.model.block import Block
from llm_lab.model.encoder import Encoder

INTRODUCTION = """\
# 08 - The Transformer encoder: exercises

Eight exercises to [lesson 08](../notebooks/08_transformer_encoder.ipynb). They climb, and none blocks the next. The
last one, `MyEncoder`, is a part of a trainer of your own: what passes is kept, and the last exercise of lesson 12 lets
your masking, attention, encoder and loop train together.

B counts rows, T tokens, E the numbers of a token, F those inside of the feed-forward, L blocks, V words."""

# ----------------------------------------------------------------------------------------------------------- predict

ONE_NORM = Number(
    id="08.one_norm",
    title="One norm by hand",
    task="""\
A token's four numbers are (1, 1, 1, 5). They go through LayerNorm, with scale 1 and an ε too small to matter. What
becomes of the 5? Give two digits after the point.""",
    why="Each part of a block reads the stream through a norm: these are the numbers that it sees.",
    difficulty=1,
    minutes=2,
    first="compute the mean of the four numbers, and how far each is from it.",
    hints=(
        "The mean is 2, so the deviations are -1, -1, -1 and 3.",
        "The variance is the mean of their squares, over all four numbers.",
        "The variance is 12 / 4 = 3. Its root divides the deviation of the 5.",
    ),
    explanation="Mean 2, variance (1 + 1 + 1 + 9) / 4 = 3. The 5 deviates by 3, and 3 over the root of 3 is 1.73.",
    truth=math.sqrt(3),
    tolerance=0.01,
    look="Subtract the mean, then divide by the root of the variance. What are the two?",
    wrong=catalogue(f"""
# RMSNorm
That is RMSNorm: it leaves the mean in. LayerNorm subtracts it first.
= {5 / math.sqrt(7):.4f}

# divided by one less
You divided the sum of squares by 3, as for a sample. LayerNorm takes the plain mean of the squares.
= {3 / 2}

# no root
You divided by the variance itself. What does the formula take of it?
= 1.0

# mean left in
You divided the 5 by the root of the variance, but did not subtract the mean from it.
= {5 / math.sqrt(3):.4f}

# subtracted alone
That is how far the 5 is from the mean. A second step brings all tokens to one size.
= 3.0

# brought to length 1
You divided by the length of the vector. A norm of a token is another thing: mean and variance.
= {5 / math.sqrt(28):.4f}

# divided by the mean
You divided by the mean. It is subtracted.
= 2.5
"""),
)

# ----------------------------------------------------------------------------------------------------------- predict

TABLES, ALL_OF_TINY = 200_704, 1_475_328

TRAINING_FLOPS = Number(
    id="08.training_flops",
    title="What one token costs",
    task="""\
The tables of one block of `tiny` hold 200,704 numbers (section 8). How many FLOPs does *one step of training* spend on
these tables for one token? Forwards, each number of a table is multiplied once and added once; a training step costs
about three times the forward pass.""",
    why="With this product you can say what a run will take before you start it.",
    difficulty=2,
    minutes=3,
    first="how many FLOPs does a token cost forwards, with one multiplication and one addition for each number?",
    hints=(
        "Forwards: two FLOPs for each number of the tables.",
        "A step goes forwards once, and backwards for about twice as much.",
        "So each number costs 2 + 4 FLOPs a token.",
    ),
    explanation="Two FLOPs forwards and about four backwards, six for each number: 6 · 200,704. Hence the rule of 6N.",
    truth=6.0 * TABLES,
    tolerance=1000.0,
    look="Which factor did you take for each number of the tables, and does it count both directions?",
    wrong=catalogue(f"""
# forwards alone
That is the forward pass. A training step goes backwards, too.
= {2 * TABLES}

# one FLOP for each number
Each number is multiplied *and* added, and there is the way back as well.
= {TABLES}

# the addition forgotten
Three passes, but each number counts for two FLOPs: a multiplication and an addition.
= {3 * TABLES}

# backwards alone
That is the way back. The forward pass comes to it.
= {4 * TABLES}

# all parameters
You counted the whole model. The card asks for the tables of one block.
= {6 * ALL_OF_TINY}

# three times forwards, and forwards
The three passes hold the forward pass already.
= {8 * TABLES}

# two tables of the feed-forward
GeGLU has three tables: you counted two. The number on the card holds all.
= {6 * (TABLES - 128 * 352)}
"""),
)

# ---------------------------------------------------------------------------------------------------------- diagnose


def all_alike() -> None:
    """Print how alike the tokens of a row are after each block of a stack whose attention is not added but replaces."""
    torch.manual_seed(0)
    encoder = Encoder(ModelConfig(500, width=32, num_layers=6, num_heads=2, feed_forward_width=64))
    with torch.no_grad():
        x = encoder.embed(torch.arange(5, 205).view(10, 20))
        print("the embedding", _alike(x))
        for number, block in enumerate(encoder.blocks, 1):
            assert isinstance(block, Block)
            seen = block.attention_norm(x)
            x = block.attention(seen, seen, None, encoder.rotary(20))
            x = x + block.feed_forward(block.feed_forward_norm(x))
            print(f"after block {number}", _alike(x))


def _alike(x: torch.Tensor) -> str:
    unit = x / x.norm(dim=-1, keepdim=True)
    pairs = (unit @ unit.mT)[:, ~torch.eye(x.shape[1], dtype=torch.bool)]
    return f"  two different tokens of a row are alike by {pairs.mean():.2f}"


ALL_ALIKE = Choice(
    id="08.all_alike",
    title="When all words become one",
    task="""\
A colleague's model has six pre-norm blocks and random weights. The cell below prints how alike two different tokens of
a row are after each block: 1 means the same direction, 0 means nothing in common. In a healthy model of this kind the
number stays near 0. What went wrong?""",
    why="This is what attention does if nothing holds against it: each mixture makes words more alike.",
    difficulty=3,
    minutes=5,
    evidence=all_alike,
    first="what does attention with random weights hand back: what the word was, or a mean over the row?",
    hints=(
        "With random weights the shares are nearly equal. So each token gets nearly the same mean.",
        "In a healthy block that mean is only a part of what comes out. Which part is missing here?",
        "What a word was must come past the attention unchanged. Which connection does that?",
    ),
    explanation="""\
Attention's result was not added to the stream but put in its place: x = f(norm(x)). Nothing of the word itself gets
past, and all tokens of a row become the same mean. The residual connection keeps them apart.""",
    choices={
        "a": "The residual connection around attention is missing.",
        "b": "The blocks are post-norm in place of pre-norm.",
        "c": "The positions are missing.",
        "d": "The feed-forward part is too narrow.",
        "e": "The residual connection around the feed-forward part is missing.",
        "f": "The scores are not divided by the root of D.",
    },
    right="a",
    wrong=catalogue("""
# post-norm
Post-norm adds as well, before it norms: what a word was still gets past the attention.
= b

# no positions
Then words in another order would look the same. But the words of a row here are different words.
= c

# a narrow feed-forward
The feed-forward part treats each token by itself: it can't mix the words of a row.
= d

# the other connection
Without it the feed-forward part replaces the stream, but for each token by itself: different tokens stay different.
= e

# no root
Larger scores make the shares less even. Then mixtures differ *more* from word to word.
= f
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def shape_of_a_model(draw: Draw) -> tuple[Any, ...]:
    """V, E, L and F of a model."""
    return draw.V, draw.E, 1 + (draw.T + draw.seed) % 4, 3 * draw.S + draw.choice(1, 2, 5)


PARAMETERS = Write(
    id="08.parameters",
    title="Count them all",
    task="""\
Write `parameters(V, E, L, F)`: how many numbers does training change in the course's masked language model, with V
words, width E, L blocks and a GeGLU of F hidden numbers? Four tables of attention, three of GeGLU, no biases in them.
Norms have a scale and no bias: two in each block but the first, which has one, and one each for the embedding and the
end.
The head has a dense table E · E, a norm, and a bias for each word; its last table is the embedding, tied.""",
    why="You will choose sizes by this formula, and notice by it when a part of your model is missing.",
    difficulty=2,
    minutes=10,
    first="count one block by hand, for E = 2 and F = 3: four tables of 4 numbers and three of 6.",
    hints=(
        "Four sums: the embedding, the blocks' tables, the norms, the head.",
        "All L blocks together have 2L - 1 norms; the embedding and the end have one each.",
        "A tied table is one table: it counts once. The head adds E · E, the norm's E and the bias's V.",
    ),
    explanation="V E + L (4 E² + 3 E F) + (2 L + 1) E + (E² + E + V), as in section 8. `tiny` has 1,475,328.",
    stub="""
def parameters(V, E, L, F):
    '''Numbers that training changes, an int.'''
    raise NotImplementedError
""",
    right=("parameters", "parameters_counted"),
    inputs=shape_of_a_model,
    may_draw=True,
    wrong=catalogue("""
# the tied table twice
You counted the embedding a second time, at the output. Tied means: one table, used twice.
- return V * E
+ return 2 * V * E

# no embedding
Your count grows too little with V: where is the embedding?
- return V * E + L
+ return L

# two tables of the feed-forward
You counted two tables of the feed-forward. GeGLU has a gate of its own.
- 3 * E * F
+ 2 * E * F

# three tables of attention
You counted three tables of attention: queries, keys, values. What mixes the heads' answers?
- 4 * E**2
+ 3 * E**2

# no norms
The scales of the norms are missing: small, but they are learnt.
- + norms
+

# one norm too many
You counted two norms in the first block as well. Its input is normed already: it has one.
- (2 * L + 1) * E
+ (2 * L + 2) * E

# norms of the blocks alone
You counted the norms inside of the blocks. The embedding has one, and the end has one.
- (2 * L + 1) * E
+ (2 * L - 1) * E

# no head
The head is missing: a dense table, a norm, a bias.
-  + head
+

# no bias for the words
In the head a number for each word is missing.
- E**2 + E + V
+ E**2 + E

# the head's norm
In the head the scale of the norm is missing.
- E**2 + E + V
+ E**2 + V

# biases in the tables
You counted a bias for each table. This model has none.
- 3 * E * F
+ 3 * E * F + 5 * E + 2 * F

# one block
You counted a single block.
- L * (attention + feed_forward)
+ (attention + feed_forward)

# norms with a bias
You counted two numbers for each feature of a norm. These norms have a scale and no bias.
- (2 * L + 1) * E
+ 2 * (2 * L + 1) * E
"""),
)

EXERCISES = (ONE_NORM, TRAINING_FLOPS, ALL_ALIKE, PARAMETERS)
