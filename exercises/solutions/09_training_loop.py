"""Right answers to the exercises of lesson 09, where the package's own function is not the answer.

Functions whose name goes on after the exercise's show that it can be written otherwise; the checks accept all of them.
"""

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from llm_lab.train.schedule import learning_rate_factor


def cosine(step, steps, warmup, lowest):
    if step < warmup:
        return (step + 1) / warmup
    way = min(1.0, (step - warmup) / (steps - warmup))
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * way)) / 2


def cosine_squared(step, steps, warmup, lowest):
    if step >= steps:
        return lowest
    if step < warmup:
        return (step + 1) / warmup
    wave = math.cos(math.pi / 2 * (step - warmup) / (steps - warmup)) ** 2
    return wave + lowest - wave * lowest


def clip(gradients, limit):
    norm = sum((g**2).sum() for g in gradients) ** 0.5
    factor = limit / norm if norm > limit else 1.0
    return [g * factor for g in gradients]


def clip_as_one_vector(gradients, limit):
    every = torch.cat([g.reshape(-1) for g in gradients])
    every = every * (limit / every.norm()).clamp(max=1.0)
    return [part.view_as(g) for part, g in zip(every.split([g.numel() for g in gradients]), gradients, strict=True)]


def clip_by_pytorch(gradients, limit):
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for parameter, g in zip(parameters, gradients, strict=True):
        parameter.grad = g.clone()
    nn.utils.clip_grad_norm_(parameters, limit)
    return [parameter.grad for parameter in parameters]


def accumulate(model, parts):
    model.zero_grad()
    count = sum((labels != -100).sum().item() for _, labels in parts)
    total = 0.0
    for x, labels in parts:
        loss = F.cross_entropy(model(x), labels, reduction="sum") / count
        loss.backward()
        total += loss.item()
    return total


def accumulate_by_shares(model, parts):
    model.zero_grad()
    counts = [int((labels >= 0).sum()) for _, labels in parts]
    total = 0.0
    for (x, labels), count in zip(parts, counts, strict=True):
        if count:
            loss = F.cross_entropy(model(x), labels) * (count / sum(counts))
            loss.backward()
            total += loss.item()
    return total


def accumulate_then_divide(model, parts):
    for parameter in model.parameters():
        parameter.grad = None
    total, count = 0.0, 0
    for x, labels in parts:
        log_p = model(x).log_softmax(dim=-1)
        asked = labels != -100
        loss = -log_p[asked, labels[asked]].sum()
        loss.backward()
        total, count = total + loss.item(), count + int(asked.sum())
    for parameter in model.parameters():
        parameter.grad /= count
    return total / count


def decay_groups(model, decay):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


def decay_groups_one_by_one(model, decay):
    return [
        {"params": [parameter], "weight_decay": decay if len(parameter.shape) > 1 else 0}
        for _, parameter in model.named_parameters()
        if parameter.requires_grad
    ]


class Checkpoint:
    def __init__(self, model, optimizer, step):
        self.model = copy.deepcopy(model.state_dict())
        self.optimizer = copy.deepcopy(optimizer.state_dict())
        self.random = torch.get_rng_state()
        self.step = step

    def restore(self, model, optimizer):
        model.load_state_dict(self.model)
        optimizer.load_state_dict(copy.deepcopy(self.optimizer))
        torch.set_rng_state(self.random)
        return self.step


class CheckpointInOne:
    def __init__(self, model, optimizer, step):
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        self.saved = copy.deepcopy({**state, "random": torch.random.get_rng_state()})

    def restore(self, model, optimizer):
        saved = copy.deepcopy(self.saved)
        torch.random.set_rng_state(saved["random"])
        optimizer.load_state_dict(saved["optimizer"])
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(saved["model"][name])
        return saved["step"]


def train(model, batches, loss_of, steps, peak_rate, warmup):
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_rate)
    losses = []
    model.train()
    for step, batch in zip(range(steps), batches, strict=False):
        rate = (step + 1) / warmup if step < warmup else (steps - step) / (steps - warmup)
        for group in optimizer.param_groups:
            group["lr"] = peak_rate * rate
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_with_a_scheduler(model, batches, loss_of, steps, peak_rate, warmup):
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_rate)
    shares = warmup / steps, 1 - warmup / steps
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, *shares))
    losses, reader = [], iter(batches)
    while len(losses) < steps:
        loss = loss_of(model.train(), next(reader))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1)
        optimizer.step()
        plan.step()
        model.zero_grad()
        losses += [float(loss.detach())]
    return losses


def train_by_hand(model, batches, loss_of, steps, peak_rate, warmup):
    weights, losses = list(model.parameters()), []
    m, v = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    model.train()
    for n, batch in enumerate(itertools.islice(batches, steps), start=1):
        loss = loss_of(model, batch)
        gradients = torch.autograd.grad(loss, weights)
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        rate = peak_rate * min(n / warmup if warmup else 1, (steps - n + 1) / (steps - warmup))
        with torch.no_grad():
            for i, g in enumerate(gradients):
                g = g / max(1.0, norm.item())
                m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g**2
                move = (m[i] / (1 - 0.9**n)) / ((v[i] / (1 - 0.999**n)).sqrt() + 1e-8)
                weights[i] -= rate * (move + 0.01 * weights[i])
        losses.append(loss.item())
    return losses
