"""The counting baseline: TF-IDF by its formula, and a regression whose minimum has a condition to check."""

import math

import pytest
import torch

from llm_lab.tasks.bag_of_words import Bags, Regression, TfIdf, accuracy, fit_regression, logits, terms_of

TEXTS = ["The cat. The dog!", "the cat sat", "A dog"]


def test_terms_are_words_and_pairs():
    assert terms_of("The cat's 2 toys") == ["the", "cat", "s", "2", "toys", "the cat", "cat s", "s 2", "2 toys"]
    assert terms_of("...") == []


def dense(bags, size):
    """Bags as a matrix (N, F)."""
    ends = [*bags.starts.tolist()[1:], len(bags.terms)]
    rows = torch.zeros(len(bags.starts), size)
    for row, start, end in zip(rows, bags.starts.tolist(), ends, strict=True):
        row[bags.terms[start:end]] += bags.weights[start:end]
    return rows


def test_weights_by_hand():
    vectors = TfIdf(TEXTS)
    # document frequencies among three texts: the 2, cat 2, dog 2, "the cat" 2, all others 1
    often, seldom = math.log(4 / 3) + 1, math.log(4 / 2) + 1
    expected = {"the": (1 + math.log(2)) * often, "cat": often, "dog": often, "the cat": often}
    expected |= {"cat the": seldom, "the dog": seldom}
    length = math.sqrt(sum(w * w for w in expected.values()))
    first = dense(vectors.bags(TEXTS), len(vectors.number))[0]
    assert len(vectors.number) == len({term for text in TEXTS for term in terms_of(text)})
    for term, number in vectors.number.items():
        assert first[number].item() == pytest.approx(expected.get(term, 0) / length, rel=1e-6)


def test_vectors_have_length_one_and_new_words_weigh_nothing():
    vectors = TfIdf(TEXTS)
    found = dense(vectors.bags(["the the bird", "a bird", "bird", "", "sat"]), len(vectors.number))
    assert found.norm(dim=1).tolist() == pytest.approx([1, 1, 0, 0, 1], abs=1e-6)
    assert found[4, vectors.number["sat"]] == 1


def test_bags_give_the_logits_of_the_matrix():
    vectors = TfIdf(TEXTS)
    bags = vectors.bags(["", *TEXTS, "new words", ""])
    model = Regression(torch.randn(len(vectors.number), 3), torch.randn(3))
    matrix = dense(bags, len(vectors.number))
    assert torch.allclose(logits(bags, model), matrix @ model.weight + model.bias, atol=1e-6)
    assert torch.allclose(logits(matrix, model), logits(bags, model), atol=1e-6)


@pytest.mark.parametrize("strength", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_regression_is_where_the_gradient_vanishes(strength, sparse):
    """At the minimum, weight = strength * sum of x (onehot - p), and the sum of (onehot - p) is 0."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=draw, dtype=torch.double)
    y = (x @ torch.randn(5, 3, generator=draw, dtype=torch.double)).argmax(dim=-1)
    y[::7] = torch.randint(3, (9,), generator=draw)
    features = Bags(torch.arange(5).repeat(60), x.flatten(), torch.arange(0, 300, 5)) if sparse else x
    model = fit_regression(features, y, 5, strength, iterations=500)
    p = (x @ model.weight + model.bias).softmax(dim=-1)
    missing = torch.nn.functional.one_hot(y, 3) - p
    assert torch.allclose(model.weight, strength * x.T @ missing, atol=2e-4)
    assert missing.sum(dim=0).abs().max() < 2e-4
    assert accuracy(features, y, model) == pytest.approx((p.argmax(dim=-1) == y).sum().item() / 60)


def test_words_that_tell_are_learnt_to_100_percent():
    texts = [f"{a} of {b}" for a in ("red", "blue") for b in ("cars", "boats", "hats", "birds")]
    y = torch.tensor([0] * 4 + [1] * 4)
    vectors = TfIdf(texts)
    model = fit_regression(vectors.bags(texts), y, len(vectors.number), 10.0)
    assert accuracy(vectors.bags(["a red house", "the blue sky"]), torch.tensor([0, 1]), model) == 1.0
    order = torch.tensor([1, 0, 1, 0])  # pairs tell where single words do not
    pairs = ["up down", "down up", "up down", "down up"]
    vectors = TfIdf(pairs)
    model = fit_regression(vectors.bags(pairs), order, len(vectors.number), 100.0)
    assert accuracy(vectors.bags(pairs), order, model) == 1.0
