"""Right answers to the exercises of lesson 08, where the package's own function is not the answer.

Functions whose name goes on after the exercise's show that it can be written otherwise; the checks accept all of them.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from llm_lab.config import ModelConfig
from llm_lab.model.heads import MaskedLanguageModel, count_parameters
from llm_lab.model.positions import rotary_table, rotate, sinusoidal_table


def layer_norm(x, scale, epsilon):
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    return (x - mean) / (variance + epsilon) ** 0.5 * scale


def layer_norm_of_pytorch(x, scale, epsilon):
    return F.layer_norm(x, scale.shape, scale, eps=epsilon)


def layer_norm_token_by_token(x, scale, epsilon):
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        mean = sum(row) / len(row)
        variance = sum((number - mean) ** 2 for number in row) / len(row)
        rows.append((row - mean) / torch.sqrt(variance + epsilon) * scale)
    return torch.stack(rows).view(x.shape)


def block(x, attend, think, first_norm, second_norm):
    x = x + attend(first_norm(x))
    return x + think(second_norm(x))


def block_by_parts(x, attend, think, first_norm, second_norm):
    stream = torch.stack((x, attend(first_norm(x)))).sum(dim=0)
    return sum((stream, think(second_norm(stream))))


def parameters(V, E, L, F):
    attention, feed_forward = 4 * E**2, 3 * E * F
    norms = (2 * L + 1) * E
    head = E**2 + E + V
    return V * E + L * (attention + feed_forward) + norms + head


def parameters_counted(V, E, L, F):
    config = ModelConfig(V, width=E, num_layers=L, num_heads=1, feed_forward_width=F)
    return count_parameters(MaskedLanguageModel(config))


def geglu(x, gate, up, down):
    return (F.gelu(x @ gate.T) * (x @ up.T)) @ down.T


def geglu_as_layers(x, gate, up, down):
    return F.linear(nn.GELU()(F.linear(x, gate)).mul(F.linear(x, up)), down)


def geglu_by_formula(x, gate, up, down):
    a = torch.einsum("bte,fe->btf", x, gate)
    passed = a * (1 + torch.erf(a / math.sqrt(2))) / 2
    return torch.einsum("btf,btf,ef->bte", passed, torch.einsum("bte,fe->btf", x, up), down)


class MyEncoder(nn.Module):
    def __init__(self, vocabulary_size, width, num_layers, num_heads, feed_forward_width, max_length, attention):
        super().__init__()
        self.num_heads, self.attention = num_heads, attention
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.places = nn.Embedding(max_length, width)
        self.blocks = nn.ModuleList(self.block(width, feed_forward_width) for _ in range(num_layers))
        self.last_norm = nn.LayerNorm(width)
        for table in (self.embedding, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def block(self, width, hidden):
        tables = {name: nn.Linear(width, width, bias=False) for name in ("query", "key", "value", "output")}
        thinking = {"up": nn.Linear(width, hidden), "down": nn.Linear(hidden, width)}
        return nn.ModuleDict(
            {"first_norm": nn.LayerNorm(width), **tables, "second_norm": nn.LayerNorm(width), **thinking}
        )

    def split(self, x):
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def look(self, part, x, mask):
        query, key, value = (self.split(part[name](x)) for name in ("query", "key", "value"))
        mixed = self.attention(query, key, value, mask)
        return part["output"](mixed.transpose(1, 2).flatten(2))

    def think(self, part, x):
        return part["down"](F.gelu(part["up"](x)))

    def forward(self, ids, mask):
        x = self.embedding(ids) + self.places.weight[: ids.shape[1]]
        allowed = None if mask is None else mask[:, None, None, :]
        for part in self.blocks:
            x = x + self.look(part, part["first_norm"](x), allowed)
            x = x + self.think(part, part["second_norm"](x))
        return self.last_norm(x)


class _PostNormBlock(nn.Module):
    def __init__(self, width, num_heads, hidden, attention):
        super().__init__()
        self.num_heads, self.attention = num_heads, attention
        self.tables, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x, mask):
        B, T, E = x.shape
        query, key, value = self.tables(x).view(B, T, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        found = self.attention(query, key, value, mask).permute(0, 2, 1, 3).reshape(B, T, E)
        x = self.norms[0](x + self.output(found))
        return self.norms[1](x + self.feed_forward(x))


class MyEncoderOf2017(nn.Module):
    def __init__(self, vocabulary_size, width, num_layers, num_heads, feed_forward_width, max_length, attention):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.register_buffer("waves", sinusoidal_table(max_length, width))
        shape = width, num_heads, feed_forward_width, attention
        self.blocks = nn.ModuleList(_PostNormBlock(*shape) for _ in range(num_layers))

    def forward(self, ids, mask):
        x = self.embedding(ids) * self.embedding.embedding_dim**0.5 + self.waves[: ids.shape[1]]
        if mask is not None:
            mask = mask[:, None, None].expand(-1, -1, ids.shape[1], -1)
        for block in self.blocks:
            x = block(x, mask)
        return x


class _RotaryBlock(nn.Module):
    def __init__(self, width, num_heads, hidden):
        super().__init__()
        self.num_heads = num_heads
        self.norm, self.other_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x, mask, attention):
        seen = self.norm(x)
        heads = [torch.stack(table(seen).chunk(self.num_heads, -1), 1) for table in (self.query, self.key, self.value)]
        tables = [table.to(x.dtype) for table in rotary_table(x.shape[1], heads[0].shape[-1])]
        found = attention(rotate(heads[0], *tables), rotate(heads[1], *tables), heads[2], mask)
        x = x + self.output(torch.cat(found.unbind(1), dim=-1))
        seen = self.other_norm(x)
        return x + self.down(F.gelu(self.gate(seen)) * self.up(seen))


class MyEncoderOfToday(nn.Module):
    def __init__(self, vocabulary_size, width, num_layers, num_heads, feed_forward_width, max_length, attention):
        super().__init__()
        self.attention = attention
        self.embedding = nn.Embedding(vocabulary_size, width)
        shape = width, num_heads, feed_forward_width
        self.blocks = nn.ModuleList(_RotaryBlock(*shape) for _ in range(num_layers))
        self.norm, self.last_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids, mask):
        x, mask = self.norm(self.embedding(ids)), None if mask is None else mask.unsqueeze(1).unsqueeze(1)
        for block in self.blocks:
            x = block(x, mask, self.attention)
        return self.last_norm(x)
