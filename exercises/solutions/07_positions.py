"""Right answers to the exercises of lesson 07, where the package's own function is not the answer.

Functions whose name goes on after the exercise's show that it can be written otherwise; the checks accept all of them.
"""

import math

import torch

from llm_lab.model.positions import alibi_bias, alibi_slopes, rotary_table
from llm_lab.model.positions import rotate as turn


def sinusoids_place_by_place(places, width):
    table = torch.empty(places, width)
    for t in range(places):
        for i in range(width // 2):
            omega = 10_000 ** (-2 * i / width)
            table[t, 2 * i], table[t, 2 * i + 1] = math.sin(omega * t), math.cos(omega * t)
    return table


def sinusoids_as_hands(places, width):
    omega = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    hands = torch.polar(torch.ones(places, width // 2), torch.outer(torch.arange(places), omega))
    return torch.view_as_real(hands).flip(-1).reshape(places, width)


def alibi_at_once(num_heads, length):
    return alibi_bias(alibi_slopes(num_heads), length)


def alibi_in_nested_lists(num_heads, length):
    slopes = [2.0 ** (-8 * h / num_heads) for h in range(1, num_heads + 1)]
    places = range(length)
    return torch.tensor([[[-slope * abs(t - s) for s in places] for t in places] for slope in slopes])


def rotate_at_once(x):
    return turn(x, *rotary_table(x.shape[2], x.shape[3]))


def rotate_as_complex_numbers(x):
    T, D = x.shape[-2:]
    omega = 10_000 ** (-2 * torch.arange(D // 2, dtype=torch.float64) / D)
    hands = torch.complex(x[..., : D // 2].contiguous(), x[..., D // 2 :].contiguous())
    angles = torch.outer(torch.arange(T, dtype=torch.float64), omega)
    hands = hands * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((hands.real, hands.imag), dim=-1).to(x.dtype)


def three_tests(encode, ids):
    padding = torch.zeros(len(ids), 10, dtype=ids.dtype)
    moved = torch.cat((padding, ids), dim=1)
    order = torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))
    here = torch.ones_like(ids, dtype=torch.bool)
    plain = encode(ids, here)
    others = (
        encode(moved, moved != 0)[:, 10:],
        encode(ids.flip(1), here).flip(1),
        encode(ids[:, order], here)[:, order.argsort()],
    )
    return tuple(bool((other - plain).abs().max() > 1e-4) for other in others)


def three_tests_place_by_place(encode, ids):
    B, T = ids.shape

    def differs(order, padding):
        longer = torch.cat([torch.zeros(B, padding, dtype=torch.long), ids[:, order]], 1)
        mask = torch.tensor([[t >= padding for t in range(padding + T)]] * B)
        plain, other = encode(ids, torch.ones(B, T, dtype=torch.bool)), encode(longer, mask)
        pairs = [(plain[:, t], other[:, padding + order.index(t)]) for t in range(T)]
        return not all(torch.allclose(one, two, rtol=0, atol=1e-4) for one, two in pairs)

    in_order = list(range(T))
    return differs(in_order, 7), differs(in_order[::-1], 0), differs(in_order[3:] + in_order[:3][::-1], 0)


def own_bias(num_heads, length):
    place = torch.arange(length)
    to_the_right = place - place[:, None]
    wanted = torch.tensor([-1, 1, -2, 2]).repeat(num_heads)[:num_heads, None, None]
    return -3.0 * (to_the_right - wanted).abs()


def own_bias_with_sides(num_heads, length):
    place = torch.arange(length)
    right = (place - place[:, None]).float()
    one_before, one_behind = -(right + 1).abs(), -(right - 1).abs()
    before, behind = (-0.3 * torch.where(side > 0, side, -8 * side) for side in (-right, right))
    return torch.stack([one_before, one_behind, before, behind] * num_heads)[:num_heads]
