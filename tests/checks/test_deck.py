"""The inputs of a check: unusual sizes and forms among them, the same ones each time, and others for mutants."""

import torch

from llm_lab.checks.deck import FRESH, SIZES, Draw, deck, fresh_cases, in_common


def maker(draw):
    return draw.normal(draw.B, draw.T, draw.E), draw.uniform(draw.T), draw.tokens(draw.B, draw.T, special_ids=(0, 5))


def test_the_deck_holds_what_the_course_promises():
    cases = deck(maker)
    inputs = [case.arguments() for case in cases]
    assert any(x.shape[1] == 1 for x, _, _ in inputs) and {x.dtype for x, _, _ in inputs} == {
        torch.float32,
        torch.float64,
    }
    assert any(not x.is_contiguous() for x, _, _ in inputs) and any(not u.is_contiguous() for _, u, _ in inputs)
    assert any(size.H % 2 and size.H > 1 for size in SIZES) and any(size.S != size.T for size in SIZES)
    assert len({case.seed for case in cases}) == len(cases)


def test_a_case_is_made_anew_and_equal_each_time():
    for case in deck(maker)[:8]:
        one, other = case.arguments(), case.arguments()
        assert all(torch.equal(a, b) and a is not b for a, b in zip(one, other, strict=True))


def test_special_inputs_come_after_the_sizes():
    cases = deck(maker, more=(lambda draw: ("special", draw.size),))
    assert cases[-1].arguments()[0] == "special" and len(cases) == len(SIZES) * 4 + 1


def test_mutants_are_tried_on_inputs_that_no_check_uses():
    cases = fresh_cases(maker, (lambda draw: ("special",),), 40)
    assert len(cases) == 40 and min(case.seed for case in cases) >= FRESH
    assert sum(case.arguments() == ("special",) for case in cases) == 4


def test_what_is_drawn():
    draw = Draw(1, SIZES[4], torch.float64)
    assert draw.normal(2000).mean().abs() < 0.1 and draw.normal(3).dtype == torch.float64
    u = draw.uniform(1000)
    assert u.dtype == torch.float64 and 0 <= u.min() and u.max() < 1
    ids = draw.tokens(200, 5, special_ids=(0, 5), share=0.5)
    assert 0.4 < torch.isin(ids, torch.tensor((0, 5))).double().mean() < 0.6 and int(ids.max()) < draw.V
    assert set(draw.integers(3, 5, 50).tolist()) == {3, 4} and draw.choice("a", "b") in ("a", "b")
    assert 0.1 < draw.flags(500, share=0.2).double().mean() < 0.3
    assert torch.equal(
        torch.rand(2, generator=Draw(1, SIZES[0]).generator()), torch.rand(2, generator=Draw(1, SIZES[0]).generator())
    )


def test_what_is_unusual_is_said():
    plain, double, strided, both = deck(maker)[4:8]
    assert in_common([double, both]) == "float64" and in_common([strided, both]) == "tensors that are not contiguous"
    assert in_common([both]) == "float64, tensors that are not contiguous" and in_common([plain, both]) == ""
    assert in_common(deck(maker)[:4]) == "T = 1"
