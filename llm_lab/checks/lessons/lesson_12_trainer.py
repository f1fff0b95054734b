"""Exercises of lesson 12, training skills, last part: a trainer of the reader's own parts, on real text."""

from __future__ import annotations

from typing import Any

from llm_lab.checks import answers
from llm_lab.checks.assembly import Assembly
from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.lessons.lesson_12_look import fault_of
from llm_lab.checks.lessons.lesson_12_runs import loss_of_own, loss_of_package

NEEDS = {
    "exact_counts": "04.exact_counts",
    "labels": "04.labels",
    "attention": "06.attention",
    "MyEncoder": "08.encoder",
    "train": "09.loop",
}


def your_parts() -> None:
    """Print which parts of the reader are kept."""
    for name, id in NEEDS.items():
        state = "kept" if answers.path_of(id).is_file() else f"missing: do exercise {id} first"
        print(f"parts.{name:14}{state}")


def first_fault(answer: Any) -> dict[str, Any]:
    """What a look at a tiny run with sound parts finds."""
    return {"fault": fault_of(answer, TRAINER.sound_parts())}


# Nats. Three right encoders with three seeds each, against the package's 3.98: today's 0.09 to 0.14 ahead, learned
# positions 0.05 to 0.35 behind, post-norm of 2017 0.61 to 0.77 behind. Word frequencies alone are 1.46 behind.
MARGIN = 1.0

TRAINER = Assembly(
    id="12.trainer",
    title="Your own trainer",
    task="""\
Write `trainer(parts, plan)`. It trains an encoder of yours on real text, and returns a pair: the trained model, and the
list of losses that your loop returns. `parts` holds what you have written, as it was kept when it passed:

- `parts.exact_counts(ids, config, special_ids, noise)` chooses the targets, `parts.labels(ids, targets, mask_id)` gives
  what the model sees and the labels (04.exact_counts, 04.labels);
- `parts.MyEncoder(vocabulary_size, width, num_layers, num_heads, feed_forward_width, max_length, attention)` and
  `parts.attention` (08.encoder, 06.attention);
- `parts.train(model, batches, loss_of, steps, peak_rate, warmup)` (09.loop).

`plan` holds what is set for both sides: `plan.rows`, a tensor (N, T) of ids without padding; `vocabulary_size`,
`mask_id`, `special_ids`; `masking`, the config for the targets; `width`, `num_layers`, `num_heads`,
`feed_forward_width`; `batch_rows`, `steps`, `peak_rate`, `warmup`. The longest row has T tokens.

What is yours: a model, `nn.Module`, that is called with ids (B, T) and a mask or None and returns a score for each
word, (B, T, V), its head tied to `embedding`; batches of `batch_rows` rows from all of the text, whose masks are drawn
anew for each; a loss that counts the targets alone. Uniform noise for the targets is free: `torch.rand` will do. The
check first looks at a tiny run; then it trains on the documentation of NumPy, and beside it the package's own
encoder, masking and loop, with AdamW like yours. The held-out loss decides, at the package's fixed masks: up to 1 nat
behind passes.""",
    why="From token ids to a language model that has read real text, and each line between them is yours.",
    difficulty=5,
    minutes=40,
    evidence=your_parts,
    first="""\
write the model: a class that keeps an encoder, and in `forward` multiplies its vectors with the table of
`encoder.embedding`. Then one batch, and its loss: near ln 512 = 6.2.""",
    hints=(
        """\
Four pieces in this order: the model, batches, `loss_of`, and one call of `parts.train`. Batches may be a generator: a
function with `yield` in an endless loop over the shuffled rows.""",
        """\
A batch: `ids = plan.rows[places]`, targets from `parts.exact_counts` with fresh noise, then `parts.labels`. The scores
are `self.encoder(ids, mask) @ self.encoder.embedding.weight.T`. There is no padding, so the mask may be None.""",
        """\
`torch.randperm(len(plan.rows)).split(plan.batch_rows)` gives the places of the batches of an epoch; leave out a last
one that is shorter. The loss: `F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-100)`.""",
    ),
    explanation="""\
A model of one line, a generator of batches, a loss of one line, and a call of the loop. `TiedModel` is the class above
it: the encoder's vectors times its own table, and a bias for each word. All else you had written before.""",
    setup="import torch.nn.functional as F\nfrom torch import nn",
    stub="""
class MyModel(nn.Module):
    '''An encoder, and a score for each word by the encoder's own embedding.'''

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, ids, mask):
        '''ids (B, T), mask (B, T) or None -> scores (B, T, V).'''
        raise NotImplementedError


def trainer(parts, plan):
    '''Train on plan.rows with your parts: the model, and the losses.'''
    raise NotImplementedError
""",
    right=("trainer", "trainer_at_the_targets"),
    needs=NEEDS,
    may_draw=True,
    seconds=20.0,
    facts=first_fault,
    measure=loss_of_own,
    rival=loss_of_package,
    goal=MARGIN,
    unit="nats behind the package",
    about="training with your parts, about a minute, then the package ...",
    limit=900.0,
    wrong=catalogue("""
# nothing comes back
Your trainer returns None: the model and the losses are thrown away.
- return model, losses
+ return None

# no pair
A pair is asked for: first the model, an `nn.Module`, then the list of losses.
- return model, losses
+ return model

# other losses
The second of the pair is not the list that your loop returned: one number for each step, in order.
- return model, losses
+ return model, losses[-1:]

# another model is returned
The model that you return is not the one that was trained: it knows nothing.
- return model, losses
+ return TiedModel(model.encoder, plan.vocabulary_size), losses

# no score for each word
Called with ids (B, T) and None, your model should return (B, T, V): V scores for each token, not its vector.
- model = TiedModel(
+ class Vectors(TiedModel):
+         def forward(self, ids, mask=None):
+             return self.encoder(ids, mask)
+
+     model = Vectors(
- model(inputs, None).flatten(0, 1)
+ (model(inputs, None) @ model.encoder.embedding.weight.T + model.bias).flatten(0, 1)

# a loop of its own
You train with another loop than `parts.train`. It is your loop of lesson 09 that is to show what it can.
- losses = parts.train(model, batches(), loss_of, plan.steps, plan.peak_rate, plan.warmup)
+ optimizer, losses = torch.optim.AdamW(model.parameters(), lr=plan.peak_rate), []
+     for _, batch in zip(range(plan.steps), batches()):
+         loss = loss_of(model, batch)
+         optimizer.zero_grad()
+         loss.backward()
+         optimizer.step()
+         losses.append(loss.item())

# an encoder of its own
Your model does not read with `parts.MyEncoder`, or that not with `parts.attention`: the last of its arguments.
- parts.attention)
+ F.scaled_dot_product_attention)

# not the plan
Both sides get the same sizes, rows a batch, share of hidden words, steps, rate and warm-up. Yours are not all those of
`plan`.
- plan.peak_rate
+ 0.1

# the batches run out
Your batches end before the last step: after an epoch the rows must be read again, with other masks.
- while True:
+ for _ in range(1):

# special tokens may be hidden
`parts.exact_counts` is not told all of `plan.special_ids`, so that [CLS] and [SEP] are hidden: questions for nothing.
- plan.special_ids, noise
+ (), noise

# the words in sight
The encoder reads rows without a single [MASK]. It sees what it should guess, and learns to copy. Its loss is splendid.
- yield parts.labels(ids, targets, plan.mask_id)
+ yield ids, parts.labels(ids, targets, plan.mask_id)[1]

# a masking of its own
What the encoder reads does not come from your `parts.exact_counts` and `parts.labels`, one after the other.
- parts.exact_counts(ids, plan.masking, plan.special_ids, noise)
+ noise < 0.3

# real words forbidden
Your mask is False at some tokens, so nobody may look at them. These rows have no padding: all may be read.
- model(inputs, None)
+ model(inputs, inputs == 0)

# the encoder gets no slope
The loss does not reach back to the encoder's vectors: something is detached, or runs under `no_grad`.
- model = TiedModel(
+ class Detached(TiedModel):
+         def forward(self, ids, mask=None):
+             return self.encoder(ids, mask).detach() @ self.encoder.embedding.weight.T + self.bias
+
+     model = Detached(

# every place counts
Your loss has a slope at every token. Visible words count, and copying them earns a low loss. Which places should count?
- labels.flatten(), ignore_index=-100)
+ labels.clamp(min=0).flatten())

# the visible words count
Your loss counts what can be seen, and leaves out what is hidden: the labels are upside down.
- yield parts.labels(ids, targets, plan.mask_id)
+ yield parts.labels(ids, targets, plan.mask_id)[0], ids.masked_fill(targets, -100)

# the neighbour answers
The loss counts other places than those that were hidden. Do you shift the labels, as one does to guess the next word?
- model(inputs, None).flatten(0, 1), labels.flatten()
+ model(inputs, None)[:, :-1].flatten(0, 1), labels[:, 1:].flatten()

# no mean over the targets
The right places count, but the loss is not their mean in nats: is it a sum, or divided by all places?
- ignore_index=-100)
+ ignore_index=-100, reduction="sum")

# a head of its own
Your model has two tables of V times E numbers. Tied means one: the head reads the table of the encoder's embedding.
- model = TiedModel(
+ class OwnHead(TiedModel):
+         def __init__(self, encoder, vocabulary_size):
+             super().__init__(encoder, vocabulary_size)
+             self.head = nn.Linear(encoder.embedding.embedding_dim, vocabulary_size, bias=False)
+
+         def forward(self, ids, mask=None):
+             return self.head(self.encoder(ids, mask)) + self.bias
+
+     model = OwnHead(

# a head that never learns
The head's table is no parameter, so it stays as it was drawn; nor is it the embedding, which gets no slope from it.
- model = TiedModel(
+ class DrawnHead(TiedModel):
+         def forward(self, ids, mask=None):
+             return self.encoder(ids, mask) @ table + self.bias
+
+     table = 0.1 * torch.randn(plan.width, plan.vocabulary_size)
+     model = DrawnHead(

# parts that never move
A parameter of your model is the same after the training as before. Print the names of those: is one made and not used?
- model = TiedModel(
+ class Unused(TiedModel):
+         def forward(self, ids, mask=None):
+             return self.encoder(ids, mask) @ self.encoder.embedding.weight.T
+
+     model = Unused(

# few rows, again and again
The loop reads less than half of the rows, over and over. It will know them by heart, and nothing else.
- torch.randperm(len(plan.rows)).split(plan.batch_rows)
+ [torch.arange(plan.batch_rows)]

# masks that never change
A row that comes again has the same words hidden, so the answers are learnt by heart. Draw the noise for each batch.
- def batches():
+ every = parts.exact_counts(plan.rows, plan.masking, plan.special_ids, torch.rand(plan.rows.shape))
+
+     def batches():
- targets = parts.exact_counts(ids, plan.masking, plan.special_ids, noise)
+ targets = every[place]

# the same places each time
All batches, or all rows of one, hide the same places: does the noise begin anew each time, or serve all rows?
- noise = torch.rand(ids.shape)
+ noise = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0))
"""),
)

EXERCISES = (TRAINER,)
