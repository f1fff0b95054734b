"""Exercises of lesson 08, the Transformer encoder, fourth part: the whole encoder."""

from __future__ import annotations

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.lessons.lesson_08_look import an_encoder, an_encoder_that_learns, look_at_encoder

ENCODER = Write(
    id="08.encoder",
    title="An encoder of your own",
    task="""\
Write the class `MyEncoder`, an `nn.Module`, with two methods:

- `__init__(self, vocabulary_size, width, num_layers, num_heads, feed_forward_width, max_length, attention)`. The last
  is a function like yours of exercise 06.attention: `attention(query, key, value, mask)` with tensors (B, H, T, D), and
  None or a mask of bool that broadcasts to (B, H, T, T). Every layer calls it once, with `num_heads` heads.
- `forward(self, ids, mask)`: ids (B, T), with T up to `max_length`; mask (B, T), True at real tokens, or None. It
  returns one vector a token, (B, T, E).

The embedding must be an `nn.Embedding` named `self.embedding`, so that a head can be tied to it, and must start small
(standard deviation 0.02), so that the first loss is near ln V. The encoder must know the order of the tokens; around
attention and feed-forward there is a residual connection. All else is free: which positions, which norms, pre-norm or
post-norm, which feed-forward, as long as it has `feed_forward_width` hidden numbers and bends them. The check looks at
properties, not at numbers.""",
    why="It is the model of your own trainer: in lesson 12 it learns real text with your attention inside.",
    difficulty=5,
    minutes=45,
    first="""\
write it for one layer and without a mask: embedding plus a learned place, one block, and look at the shape that comes
out. The naive encoder of section 6 shows every step.""",
    hints=(
        """\
Parts first: an `nn.Embedding` for the words, one for the places, a class for the block, an `nn.ModuleList` of blocks, a
last norm. In `forward`: words plus places, the blocks one after the other, the norm.""",
        """\
Heads: `x.unflatten(-1, (num_heads, -1)).transpose(1, 2)` makes (B, H, T, D) of (B, T, E), and `.transpose(1, 2)
.flatten(2)` goes back. The mask becomes `mask[:, None, None, :]`, in every layer, unless it is None.""",
        """\
A block of four tables `nn.Linear(width, width)` and two of the feed-forward: x + output(attention(heads of norm(x))),
then x + down(gelu(up(norm(x)))). At the end of `__init__`: `nn.init.normal_(self.embedding.weight, std=0.02)`.""",
    ),
    explanation="""\
Pre-norm, learned positions, plain GELU: the shortest of many right ones. `block` makes the parts of one block, `look`
and `think` are its two halves, and `forward` adds both to the stream, block by block.""",
    setup="import torch.nn.functional as F\nfrom torch import nn",
    stub="""
class MyEncoder(nn.Module):
    '''Token ids -> one vector a token, each informed by the others.'''

    def __init__(self, vocabulary_size, width, num_layers, num_heads, feed_forward_width, max_length, attention):
        super().__init__()
        raise NotImplementedError

    def forward(self, ids, mask):
        '''ids (B, T), mask (B, T) or None -> (B, T, E).'''
        raise NotImplementedError
""",
    right=("MyEncoder", "MyEncoderOf2017", "MyEncoderOfToday"),
    inputs=an_encoder,
    more=(an_encoder_that_learns,),
    probe=look_at_encoder,
    may_draw=True,
    wrong=catalogue("""
# no positions
Shuffle the words of a row, and their vectors are shuffled, too, and otherwise the same: nothing tells it the order.
-  + self.places.weight[: ids.shape[1]]
+

# the mask ignored
Your attention never gets the mask, so padding is read like words.
- (x), allowed)
+ (x), None)

# the mask upside down
Your tokens see the padding, and nothing else. True means: may attend.
- else mask[
+ else ~mask[

# the mask on the other axis
Your mask forbids the padding to look. It should forbid to look *at* it: which axis of (B, H, T, S) is looked at?
- mask[:, None, None, :]
+ mask[:, None, :, None]

# the mask in the first layer alone
Only one layer gets the mask: from the second on the padding is read.
- part["first_norm"](x), allowed)
+ part["first_norm"](x), allowed if part is self.blocks[0] else None)

# looks to the left alone
A token does not see what stands behind it. This is an encoder: all may look at all, but for the padding.
- allowed = None if mask is None else mask[:, None, None, :]
+ allowed = (torch.ones_like(ids, dtype=torch.bool) if mask is None else mask)[:, None, None, :]
+         allowed = allowed & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()

# heads cut across the words
The shape for attention is right, but the last head of a token has got numbers of another token: `reshape` and `view`
move nothing. Two axes must be exchanged (exercise 06.split_heads).
- x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
+ x.reshape(len(x), self.num_heads, x.shape[1], -1)

# heads joined across the words
What the last head finds for a token ends up at another one: between (B, H, T, D) and (B, T, E) two axes must be
exchanged *before* the numbers are joined.
- mixed.transpose(1, 2).flatten(2)
+ mixed.reshape(x.shape)

# one head
Attention gets a single head of all E numbers. It should get `num_heads` of E / H numbers each.
- (self.num_heads, -1)
+ (1, -1)

# blocks in a plain list
The blocks are in a list of Python, and PyTorch does not see them: they are no parameters of the model, and no optimizer
would train them. What is a list for modules called?
- nn.ModuleList(
+ list(

# one block many times
All layers share one block: with more layers the model does not get more parameters. `[x] * n` is n times the same x.
- nn.ModuleList(self.block(width, feed_forward_width) for _ in range(num_layers))
+ nn.ModuleList([self.block(width, feed_forward_width)] * num_layers)

# the feed-forward's width ignored
No table has `feed_forward_width` rows: yours has another width.
- self.block(width, feed_forward_width)
+ self.block(width, 4 * width)

# another attention
The attention that you are given is never asked. Use it in place of one from a library.
- self.attention(query, key, value, mask)
+ F.scaled_dot_product_attention(query, key, value, mask)

# the embedding by another name
There is no `nn.Embedding` named `self.embedding`: the head would look for it in vain.
class Wrong(MyEncoder):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.words = self.embedding
        del self.embedding

# nothing added after attention
When attention finds nothing, a token forgets its own word: its result replaces the stream, and is not added to it.
- x = x + self.look(
+ x = self.look(

# nothing added after the feed-forward
The feed-forward part replaces the stream, in place of being added to it.
- x = x + self.think(
+ x = self.think(

# nothing bends
Your feed-forward is one table after another, and two tables in a row are no more than one. What stands between them?
- F.gelu(part["up"](x))
+ part["up"](x)

# scores for words
You return a score for each word. The head will do that: the encoder returns E numbers a token.
- return self.last_norm(x)
+ return self.last_norm(x) @ self.embedding.weight.T

# one vector for a row
You return the mean over the tokens. One vector a token is wanted: (B, T, E).
- return self.last_norm(x)
+ return self.last_norm(x).mean(dim=1)

# a norm over the batch
A row comes out differently in other company: something is normed or mixed over the rows of the batch.
- return self.last_norm(x)
+ return (x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + 1e-5) ** 0.5 * self.last_norm.weight

# dropout that never ends
In evaluation the same rows give other vectors each time. `F.dropout` must be told when to stop; `nn.Dropout` knows.
- return self.last_norm(x)
+ return F.dropout(self.last_norm(x), 0.1)

# parameters without a use
Some parameters get no slope: they are made, and play no part. After `backward`, print the names of those whose `.grad`
is None.
- self.last_norm = nn.LayerNorm(width)
+ self.last_norm, self.spare = nn.LayerNorm(width), nn.Linear(width, width)

# a loud embedding
With a tied head your first loss is far above ln V. `nn.Embedding` starts with numbers of size 1, and E of them make
large scores.
- for table in (self.embedding, self.places):
+ for table in (self.places,):

# one place too few
A row of `max_length` tokens does not fit: your places end one too early.
- nn.Embedding(max_length, width)
+ nn.Embedding(max(1, max_length - 1), width)
"""),
)

EXERCISES = (ENCODER,)
