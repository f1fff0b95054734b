"""Right answers to the exercises of lesson 12, where the package's own function is not the answer.

Functions whose name goes on after the exercise's show that it can be written otherwise; the checks accept all of them.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn


class TiedModel(nn.Module):
    def __init__(self, encoder, vocabulary_size):
        super().__init__()
        self.encoder = encoder
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, ids, mask=None):
        return self.encoder(ids, mask) @ self.encoder.embedding.weight.T + self.bias


def trainer(parts, plan):
    sizes = plan.width, plan.num_layers, plan.num_heads, plan.feed_forward_width, plan.rows.shape[1]
    model = TiedModel(parts.MyEncoder(plan.vocabulary_size, *sizes, parts.attention), plan.vocabulary_size)

    def batches():
        while True:
            for place in torch.randperm(len(plan.rows)).split(plan.batch_rows):
                ids = plan.rows[place]
                if len(ids) == plan.batch_rows:
                    noise = torch.rand(ids.shape)
                    targets = parts.exact_counts(ids, plan.masking, plan.special_ids, noise)
                    yield parts.labels(ids, targets, plan.mask_id)

    def loss_of(model, batch):
        inputs, labels = batch
        return F.cross_entropy(model(inputs, None).flatten(0, 1), labels.flatten(), ignore_index=-100)

    losses = parts.train(model, batches(), loss_of, plan.steps, plan.peak_rate, plan.warmup)
    return model, losses


class ModelWithDenseHead(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.body, words = encoder, encoder.embedding
        self.dense, self.norm = nn.Linear(words.embedding_dim, words.embedding_dim), nn.LayerNorm(words.embedding_dim)

    def features(self, ids, mask):
        return self.norm(F.gelu(self.dense(self.body(ids, mask))))

    def forward(self, ids, mask):
        return F.linear(self.features(ids, mask), self.body.embedding.weight)


def trainer_at_the_targets(parts, plan):
    encoder = parts.MyEncoder(
        plan.vocabulary_size,
        plan.width,
        plan.num_layers,
        plan.num_heads,
        plan.feed_forward_width,
        max_length=plan.rows.shape[1],
        attention=parts.attention,
    )
    model, chance, batches = ModelWithDenseHead(encoder), torch.Generator().manual_seed(7), []
    order = itertools.chain.from_iterable(torch.randperm(len(plan.rows), generator=chance) for _ in itertools.count())
    for _ in range(plan.steps):
        ids = plan.rows[torch.stack(list(itertools.islice(order, plan.batch_rows)))]
        chosen = parts.exact_counts(ids, plan.masking, plan.special_ids, torch.rand(ids.shape, generator=chance))
        batches.append(parts.labels(ids, chosen, plan.mask_id))

    def loss_of(model, batch):
        inputs, labels = batch
        asked = labels != -100
        found = model.features(inputs, torch.ones_like(asked))[asked]
        log_p = (found @ model.body.embedding.weight.T).log_softmax(dim=-1)
        return -log_p.gather(1, labels[asked][:, None]).mean()

    return model, parts.train(model, batches, loss_of, plan.steps, plan.peak_rate, plan.warmup)


def length_ramp(ids, step, steps):
    length = ids.shape[1] * 2 ** (3 * step // steps) // 4
    return ids.reshape(-1, length)


def length_ramp_by_cutting(ids, step, steps):
    pieces = 4 if 3 * step < steps else 2 if 3 * step < 2 * steps else 1
    return torch.stack([piece for row in ids for piece in row.chunk(pieces)])


def average(averaged, weights, decay, step):
    keep = min(decay, (1 + step) / (10 + step))
    return {name: keep * averaged[name] + (1 - keep) * value for name, value in weights.items()}


def average_by_lerp(averaged, weights, decay, step):
    memory = (1 + step) / (10 + step)
    move = 1 - (decay if decay < memory else memory)
    return {name: torch.lerp(old, weights[name], move) for name, old in averaged.items()}


def fair(run, ours, theirs, rates, seeds):
    means = []
    for recipe in (ours, theirs):
        best = min(rates, key=lambda rate, recipe=recipe: run(recipe, rate, seeds[0]))
        losses = [run(recipe, best, seed) for seed in seeds]
        means.append(sum(losses) / len(losses))
    return means[1] - means[0]


def fair_with_a_table(run, ours, theirs, rates, seeds):
    found = {(recipe, rate): run(recipe, rate, seeds[0]) for rate in rates for recipe in (ours, theirs)}
    total = {}
    for recipe in (ours, theirs):
        loss, rate = sorted((loss, rate) for (name, rate), loss in found.items() if name == recipe)[0]
        total[recipe] = loss + sum(run(recipe, rate, seed) for seed in seeds[1:])
    return (total[theirs] - total[ours]) / len(seeds)


def spans(starts, lengths, words, wanted):
    hidden = torch.zeros_like(words)
    for b in range(len(words)):
        left = wanted[b].item()
        for start, length in zip(starts[b].tolist(), lengths[b].tolist(), strict=True):
            for t in range(start, min(start + length, words.shape[1])):
                if left > 0 and words[b, t] and not hidden[b, t]:
                    hidden[b, t] = True
                    left -= 1
    return hidden


def spans_in_one_order(starts, lengths, words, wanted):
    rows = []
    for first, long, allowed, count in zip(
        starts.tolist(), lengths.tolist(), words.tolist(), wanted.tolist(), strict=True
    ):
        order = [t for start, n in zip(first, long, strict=True) for t in range(len(allowed))[start : start + n]]
        chosen = list(dict.fromkeys(t for t in order if allowed[t]))[:count]
        rows.append([t in chosen for t in range(len(allowed))])
    return torch.tensor(rows)
