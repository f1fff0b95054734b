"""The oracle against brute force, an outside pass in plain loops, frequencies of samples, and the laws of entropy."""

import itertools
import math

import numpy as np
import pytest
import torch

from llm_lab.config import MaskingConfig, ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.text.grammar import Grammar, easy_language, hard_language
from llm_lab.text.language import MASK, PAD
from llm_lab.text.masking import IGNORED, mask_tokens, random_noise
from llm_lab.text.optimum import (
    best_guesses,
    channel,
    clustered,
    excess,
    excesses,
    floor,
    floors,
    masked_sample,
    posterior,
)
from tests.text.by_hand import TINY_RULES, TINY_WORDS, plain_english, tiny

SCHEMES = ["pure", "80/10/10"]


@pytest.fixture(scope="module")
def hard():
    return hard_language()


@pytest.fixture(scope="module")
def small():
    return Grammar("tiny", TINY_RULES, TINY_WORDS, 6)


def channel_by_hand(language, observed, chosen, scheme):
    """P(token seen | word) for each position and word: (T, V). `chosen`: the chance that a position is a target."""
    words = range(5, len(language.vocabulary))
    table = np.zeros((len(observed), len(language.vocabulary)))
    for t, seen in enumerate(np.asarray(observed).tolist()):
        for word in words:
            same = float(seen == word)
            if scheme == "pure":
                table[t, word] = chosen if seen == MASK else (1 - chosen) * same
            elif seen == MASK:
                table[t, word] = chosen * 0.8
            else:
                table[t, word] = (1 - chosen) * same + chosen * (0.1 * same + 0.1 / len(words))
    return table


def by_enumeration(sentences, probability, observed, position, rate, scheme, size):
    """P(word at `position` | observed, it is a target): a sum over sentences and over which others are targets.

    sentences (N, T) and their probability (N,): all that the language can say in so many words.
    """
    words = size - 5
    total = np.zeros(len(sentences))
    length = len(observed)
    others = [t for t in range(length) if t != position]
    for also in itertools.product([False, True], repeat=length - 1):
        targets = dict(zip(others, also, strict=True)) | {position: True}
        p = probability * rate ** sum(also) * (1 - rate) ** (length - 1 - sum(also))
        for t in range(length):
            same = sentences[:, t] == observed[t]
            if not targets[t]:
                p = p * same
            elif scheme == "pure":
                p = p * (observed[t] == MASK)
            else:
                p = p * (0.8 if observed[t] == MASK else 0.1 * same + 0.1 / words)
        total += p
    by_word = np.bincount(sentences[:, position], weights=total, minlength=size)
    return by_word / by_word.sum()


def spelled(language, plain, length):
    """All sentences of so many words, (N, T), and their probabilities, by expansion."""
    found = plain.expand(length)
    number = {word: i for i, word in enumerate(language.vocabulary)}
    return np.array([[number[word] for word in text] for text in found]), np.array(list(found.values()))


def corrupted(rows, language, rate, scheme, seed):
    """What is seen of sentences without padding, after Bernoulli masking with a rate of its own, and the targets."""
    noise = random_noise(rows.shape, torch.Generator().manual_seed(seed))
    masking = MaskingConfig(rate, scheme, "bernoulli")
    seen = mask_tokens(torch.from_numpy(rows), masking, MASK, range(5), len(language.vocabulary), noise)
    return seen.inputs.numpy(), (seen.labels != IGNORED).numpy()


# -- the posterior, word for word -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("length", [2, 3, 4, 5, 6])
def test_the_posterior_is_that_of_all_derivations_of_the_tiny_grammar(small, length, scheme):
    sentences, probability = spelled(small, tiny(), length)
    random = np.random.default_rng(length)
    rows = sentences[random.choice(len(sentences), 5, p=probability / probability.sum())]
    observed, _ = corrupted(rows, small, 0.6, scheme, length)
    observed[0] = MASK  # nothing is seen but the length
    found = posterior(small, np.pad(observed, ((0, 0), (0, 6 - length))), 0.25, scheme).numpy()
    assert (found[:, length:] == 0).all()
    asked = 0
    for row, position in itertools.product(range(5), range(length)):
        if scheme == "pure" and observed[row, position] != MASK:
            assert found[row, position, observed[row, position]] == 1 == found[row, position].sum()
            continue
        size = len(small.vocabulary)
        expected = by_enumeration(sentences, probability, observed[row], position, 0.25, scheme, size)
        assert np.abs(found[row, position] - expected).max() < 1e-12
        asked += 1
    assert asked >= length


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("length", [4, 5])
def test_the_posterior_is_that_of_all_short_sentences_of_the_hard_language(hard, length, scheme):
    sentences, probability = spelled(hard, plain_english(), length)
    random = np.random.default_rng(length)
    rows = sentences[random.choice(len(sentences), 12, p=probability / probability.sum())]
    observed, _ = corrupted(rows, hard, 0.5, scheme, length)
    observed[0] = MASK
    found = posterior(hard, observed, 0.3, scheme).numpy()
    for row, position in itertools.product(range(len(observed)), range(length)):
        if scheme == "pure" and observed[row, position] != MASK:
            continue
        expected = by_enumeration(sentences, probability, observed[row], position, 0.3, scheme, len(hard.vocabulary))
        assert np.abs(found[row, position] - expected).max() < 1e-12


@pytest.mark.parametrize("hidden", [(0,), (1, 2), (0, 3), (0, 1, 2, 3, 4)])
def test_every_short_sentence_with_these_words_hidden(hard, hidden):
    """All 18,176 sentences of five words: equal questions are asked once, each answered by counting its sentences."""
    sentences, probability = spelled(hard, plain_english(), 5)
    observed = sentences.copy()
    observed[:, list(hidden)] = MASK
    questions, which = np.unique(observed, axis=0, return_inverse=True)
    size = len(hard.vocabulary)
    if len(questions) > 3000:  # every fourth, to spare time
        keep = np.arange(0, len(questions), 4)
        some = np.isin(which.ravel(), keep)
        which = np.searchsorted(keep, which.ravel()[some])
        sentences, probability, questions = sentences[some], probability[some], questions[keep]
    found = posterior(hard, questions, 0.15).numpy()
    for position in hidden:
        flat = which.ravel() * size + sentences[:, position]
        expected = np.bincount(flat, weights=probability, minlength=len(questions) * size).reshape(-1, size)
        expected /= expected.sum(axis=1, keepdims=True)
        assert np.abs(found[:, position] - expected).max() < 1e-12


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_gradient_is_an_outside_pass(hard, scheme):
    """Sentences of any length: inside and outside probabilities of every phrase, in plain loops."""
    plain, rate = plain_english(), 0.25
    inputs, labels = masked_sample(hard, MaskingConfig(rate, scheme, "bernoulli"), 9, 4)
    found = posterior(hard, inputs, rate, scheme).numpy()
    compared = 0
    for observed, hidden, guesses in zip(inputs.numpy(), (labels != IGNORED).numpy(), found, strict=True):
        length = int((observed != PAD).sum())
        if scheme == "80/10/10" and length > 12:
            continue  # no word is certain there: minutes in plain loops
        seen = channel_by_hand(hard, observed[:length], rate, scheme)
        likelihood = [{hard.vocabulary[i]: row[i] for i in row.nonzero()[0]} for row in seen]
        inside = plain.inside(likelihood)
        outside = plain.outside(inside, length)
        assert math.log(inside[0, length]["Root"]) == pytest.approx(
            hard.evidence(torch.from_numpy(seen)[None]).item(), abs=1e-9
        )
        scored = channel_by_hand(hard, observed[:length], 1.0, scheme)
        for t in range(length):
            if scheme == "pure" and not hidden[t]:
                continue
            joint = np.zeros(len(hard.vocabulary))
            for category, p in outside[t, t + 1].items():
                for word, q in plain.words.get(category, {}).items():
                    joint[hard.vocabulary.index(word)] += p * q
            joint *= scored[t]
            assert np.abs(guesses[t] - joint / joint.sum()).max() < 1e-12
            compared += 1
    assert compared > 20


def test_a_window_is_what_remains_after_the_rest_is_hidden(hard):
    """Under pure masking an unseen word and a hidden one say the same: nothing. One hidden word at a time is asked."""
    ids = hard.sample(20, 7)
    row, position = (ids != PAD).nonzero()
    pick = np.random.default_rng(0).choice(len(row), 40, replace=False)
    row, position = torch.from_numpy(row[pick]), torch.from_numpy(position[pick])
    inputs, labels = torch.from_numpy(ids)[row], torch.full((40, 24), IGNORED)
    n = torch.arange(40)
    labels[n, position] = inputs[n, position]
    inputs[n, position] = MASK
    for k in (0, 1, 2, 5):
        found = best_guesses(hard, inputs, labels, 0.15, "pure", window=k)
        seen = inputs.clone()
        for i in range(40):
            for t in range(24):
                if abs(t - int(position[i])) > k and seen[i, t] != PAD:
                    seen[i, t] = MASK
        expected = posterior(hard, seen, 0.15)[n, position]
        assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_window_as_wide_as_a_sentence_is_none(hard, scheme):
    masking = MaskingConfig(0.2, scheme, "bernoulli")
    inputs, labels = masked_sample(hard, masking, 60, 5)
    whole = best_guesses(hard, inputs, labels, 0.2, scheme)
    assert (best_guesses(hard, inputs, labels, 0.2, scheme, window=24) - whole).abs().max() < 1e-13
    assert (best_guesses(hard, inputs, labels, 0.2, scheme, window=2) - whole).abs().max() > 0.1


def test_rows_of_any_order_and_number_have_the_same_answers(hard):
    inputs, _ = masked_sample(hard, MaskingConfig(0.3, "pure", "bernoulli"), 300, 2)
    together = posterior(hard, inputs, 0.3)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:40]
    assert torch.allclose(posterior(hard, inputs[order].numpy(), 0.3), together[order], rtol=0, atol=1e-13)
    assert together.dtype == torch.float64 and together.shape == (300, 24, len(hard.vocabulary))
    assert not together.requires_grad
    real = inputs != PAD
    assert (together.sum(dim=-1)[real] - 1).abs().max() < 1e-12 and (together[~real] == 0).all()
    assert (together[..., :5] == 0).all() and (together >= 0).all()


def test_what_is_impossible_is_exactly_so(hard):
    """Not 1e-18: a guesser that gives it nothing must not seem infinitely wrong."""
    rows = hard.ids_of(["the [MASK] near the dogs sleeps .", "the king [MASK] ."])
    for scheme in SCHEMES:
        p = posterior(hard, rows, 0.15, scheme)
        if scheme == "pure":
            assert {hard.vocabulary[i] for i in p[1, 2].nonzero()[:, 0].tolist()} == set(
                "sings dances laughs works prays sleeps runs waits".split()
            )
        number = [hard.vocabulary.index(word) for word in ("the", "kings", "boys", "near", ".")]
        assert (p[0, 1, number] == 0).all() == (scheme == "pure")
    rows = hard.sample(100, 11)
    rows[:, 2] = MASK
    p = posterior(hard, rows, 0.15)[:, 2]
    assert (p[p > 0] > 1e-12).all()
    easy = easy_language()
    rows = easy.sample(100, 11)
    rows[:, 2] = MASK
    p = posterior(easy, rows, 0.15)[:, 2]
    assert (p[p > 0] > 1e-12).all() and (p[:, 5:] == 0).any()


def test_a_sentence_that_can_not_be_said_is_refused(hard):
    rows = hard.ids_of(["the king sleeps .", "the [MASK] sees sleep ."])
    with pytest.raises(ValueError, match=r"the language grammar has no sentence 'the \[MASK\] sees sleep \.'"):
        posterior(hard, rows, 0.15)
    easy = easy_language()
    with pytest.raises(ValueError, match="the language grammar-easy has no sentence 'and pot the the'"):
        posterior(easy, easy.ids_of(["and pot the the"]), 0.15)
    allowed = posterior(hard, rows[1:], 0.15, "80/10/10")  # there a word may be a random one
    assert allowed.isfinite().all()


# -- the channel is what the collator does ----------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.15, 0.4])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_masking_draws_the_channel_that_the_oracle_assumes(hard, scheme, rate):
    ids = torch.from_numpy(hard.sample(8000, 3))
    size = len(hard.vocabulary)
    noise = random_noise(tuple(ids.shape), torch.Generator().manual_seed(1))
    masking = MaskingConfig(rate, scheme, "bernoulli")
    inputs, labels = mask_tokens(ids, masking, MASK, range(5), size, noise)
    real, target = ids != PAD, labels != IGNORED
    assert (inputs[~real] == PAD).all() and not torch.isin(inputs[real], torch.tensor([0, 1, 2, 3])).any()
    tokens = torch.arange(size)[None]
    for scored, places in ((True, target), (False, real)):
        table = channel(hard, tokens, rate, scheme, scored)[0].numpy()  # (token seen, word)
        assert np.abs(table[4:, 5:].sum(axis=0) - 1).max() < 1e-13
        by_hand = channel_by_hand(hard, tokens[0], 1.0 if scored else rate, scheme)
        assert np.abs(table[4:, 5:] - by_hand[4:, 5:]).max() < 1e-15
        pairs = (inputs[places] * size + ids[places]).numpy()
        counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
        n = counts.sum(axis=0)  # how often each word stood there
        expected, variance = table * n, table * (1 - table) * n
        assert counts[(table == 0)].sum() == 0
        groups = {  # sums over many cells, each nearly normal
            "[MASK]": np.arange(size) == MASK,
            **{hard.vocabulary[i]: np.arange(size) == i for i in range(5, size)},
        }
        for name, seen in groups.items():
            if variance[seen].sum() > 9:
                assert abs((counts - expected)[seen].sum()) < 4.5 * math.sqrt(variance[seen].sum()), (name, scored)
        same = np.eye(size, dtype=bool)
        same[:5] = False
        for cells in (same, ~same & (np.arange(size) > 4)[:, None]):
            if variance[cells].sum() > 1:
                assert abs((counts - expected)[cells].sum()) < 4 * math.sqrt(variance[cells].sum())
        for word in n.argsort()[-5:]:  # of the most frequent words, the whole distribution of what is seen
            seen = expected[:, word] > 0
            mean = expected[seen, word]
            few = mean < 5
            merged = np.append(mean[~few], mean[few].sum())
            found = np.append(counts[seen, word][~few], counts[seen, word][few].sum())
            chi = (((found - merged) ** 2)[merged > 0] / merged[merged > 0]).sum()
            freedom = max((merged > 0).sum() - 1, 1)
            spread = 2 / (9 * freedom)  # Wilson and Hilferty 1931: the cube root is nearly normal
            assert chi < freedom * (1 - spread + 4 * math.sqrt(spread)) ** 3


# -- what was sampled agrees with what was expected -------------------------------------------------------------------


@pytest.fixture(scope="module", params=["hard", "hard 3", "easy"])
def language(request):
    return {"hard": hard_language(), "hard 3": hard_language(3), "easy": easy_language()}[request.param]


def score_of(values, cluster):
    """Sum of values over its standard error, values of one sentence belonging together."""
    sums = np.bincount(cluster, weights=values)
    return values.sum() / max(math.sqrt((sums**2).sum()), 1e-9)  # a certain word has no spread


@pytest.mark.parametrize("scheme", SCHEMES)
def test_hidden_words_are_as_frequent_as_their_posterior_says(language, scheme):
    rate = 0.3
    inputs, labels = masked_sample(language, MaskingConfig(rate, scheme, "bernoulli"), 600, 6)
    p = best_guesses(language, inputs, labels, rate, scheme).numpy()
    word = labels[labels != IGNORED].numpy()
    cluster = (labels != IGNORED).nonzero()[:, 0].numpy()
    n = np.arange(len(word))
    assert (p[n, word] > 0).all()
    for i in range(5, len(language.vocabulary)):
        if p[:, i].sum() > 15:
            assert abs(score_of((word == i) - p[:, i], cluster)) < 4.5, language.vocabulary[i]
    for low, high in itertools.pairwise([0, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9, 0.99, 1.001]):
        inside = (p >= low) & (p < high)  # words that are about so probable
        hit = np.zeros_like(p)
        hit[n, word] = 1
        values = ((hit - p) * inside).sum(axis=1)
        if (p * inside).sum() > 15 and np.abs(values).sum() > 1e-9 and high < 1:
            assert abs(score_of(values, cluster)) < 4, (low, high)
    # The mean entropy is the expected loss: -log p of the words themselves has the same mean.
    entropy, row = floors(language, inputs, labels, rate, scheme)
    loss = -np.log(p[n, word])
    assert abs(score_of(loss - entropy.numpy(), row.numpy())) < 4
    by_hand = [-sum(q * math.log(q) for q in guess if q > 0) for guess in p[:50]]
    assert entropy[:50].tolist() == pytest.approx(by_hand, abs=1e-12)


def test_targets_of_a_masked_sample(hard):
    masking = MaskingConfig(0.2, "80/10/10", "bernoulli")
    inputs, labels = masked_sample(hard, masking, 500, 3)
    ids = torch.from_numpy(hard.sample(500, 3))
    target = labels != IGNORED
    assert torch.equal(labels[target], ids[target]) and torch.equal(inputs[~target], ids[~target])
    again = masked_sample(hard, masking, 500, 3)
    assert torch.equal(again[0], inputs) and torch.equal(again[1], labels)
    assert abs(target.sum().item() / (ids != PAD).sum().item() - 0.2) < 0.02


# -- floors and excess ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masked(hard):
    return masked_sample(hard, MaskingConfig(0.15, "pure", "bernoulli"), 60, 1)


def test_a_floor_is_the_mean_of_its_entropies(hard, masked):
    estimate = floor(hard, 0.15, "pure", n=60, seed=1)
    entropy, row = floors(hard, *masked, 0.15, "pure")
    assert estimate == clustered(entropy, row) and estimate.targets == len(entropy)
    assert estimate.mean == pytest.approx(entropy.mean().item(), abs=1e-14)
    assert 0 < estimate.standard_error < 0.3


def test_floors_fall_as_more_is_seen(hard, masked):
    whole, row = floors(hard, *masked, 0.15, "pure")
    previous = None
    for k in (0, 1, 3, 24):
        windowed, again = floors(hard, *masked, 0.15, "pure", window=k)
        assert torch.equal(row, again)
        if previous is not None:
            assert clustered(previous - windowed, row).mean > 0
        previous = windowed
    assert (previous - whole).abs().max() < 1e-10  # 24 words to each side are all
    rates = [floor(hard, rate, "pure", n=60, seed=1).mean for rate in (0.15, 0.3, 0.6)]
    assert rates == sorted(rates)


def test_the_oracle_of_another_seed_is_no_oracle(hard):
    """The same sentences are possible, but a guesser that knows the other language is above the floor."""
    three = hard_language(3)
    inputs, labels = masked_sample(three, MaskingConfig(0.15, "pure", "bernoulli"), 150, 1)
    log_q = best_guesses(hard, inputs, labels, 0.15, "pure").log()
    found = excess(three, inputs, labels, log_q)
    assert found.mean > 0.1 and found.mean > 8 * found.standard_error
    floors_of = {seed: floor(hard_language(seed), n=150) for seed in (0, 3, 4)}
    assert len({estimate.mean for estimate in floors_of.values()}) == 3
    assert floor(three, n=150) == floors_of[3]


def test_the_measured_floors_are_in_the_range_that_was_measured_before(hard):
    """1.46 and 1.33 nats over 2,000 sentences."""
    for scheme, expected in (("pure", 1.46), ("80/10/10", 1.33)):
        estimate = floor(hard, 0.15, scheme, n=300, seed=4)
        assert abs(estimate.mean - expected) < 4 * math.hypot(estimate.standard_error, 0.04)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_excess_is_a_divergence(hard, scheme):
    masking = MaskingConfig(0.15, scheme, "bernoulli")
    inputs, labels = masked_sample(hard, masking, 50, 8)
    p = best_guesses(hard, inputs, labels, 0.15, scheme)
    own, row = excesses(hard, inputs, labels, p.log(), 0.15, scheme)
    assert own.abs().max() < 1e-12 and torch.equal(row, (labels != IGNORED).nonzero()[:, 0])
    draw = torch.Generator().manual_seed(0)
    for scale in (0.01, 1, 20):
        log_q = (p.clamp(min=1e-9).log() + scale * torch.randn(p.shape, generator=draw)).log_softmax(dim=-1)
        found, _ = excesses(hard, inputs, labels, log_q, 0.15, scheme)
        assert found.min() > -1e-12
        both = zip(p[:30].tolist(), log_q[:30].tolist(), strict=True)
        by_hand = [sum(a * (math.log(a) - b) for a, b in zip(*pair, strict=True) if a > 0) for pair in both]
        assert found[:30].tolist() == pytest.approx(by_hand, abs=1e-10)
    wrong = torch.full_like(p, -torch.inf)
    assert (excesses(hard, inputs, labels, wrong, 0.15, scheme)[0] == torch.inf).all()


def test_the_excess_of_frequencies_is_their_cross_entropy_above_the_floor(hard):
    inputs, labels = masked_sample(hard, MaskingConfig(0.15, "pure", "bernoulli"), 300, 9)
    counts = np.bincount(hard.sample(20_000, 4)[hard.sample(20_000, 4) != PAD], minlength=len(hard.vocabulary))
    log_q = torch.from_numpy(np.log((counts + 1e-9) / counts.sum()))
    word = labels[labels != IGNORED]
    found, row = excesses(hard, inputs, labels, log_q.expand(len(word), -1))
    assert excess(hard, inputs, labels, log_q.expand(len(word), -1)) == clustered(found, row)
    entropy, _ = floors(hard, inputs, labels, 0.15, "pure")
    difference = clustered(-log_q[word] - entropy - found, row)  # loss - floor - excess
    assert abs(difference.mean) < 4 * difference.standard_error < 0.3
    assert clustered(found, row).mean == pytest.approx(3.04, abs=0.25)


@pytest.mark.parametrize("k", [1, 3])
def test_the_best_guess_of_a_window_exceeds_the_floor_by_the_difference_of_their_floors(hard, k):
    inputs, labels = masked_sample(hard, MaskingConfig(0.15, "pure", "bernoulli"), 90, 10)
    guess = best_guesses(hard, inputs, labels, 0.15, "pure", window=k)
    found, row = excesses(hard, inputs, labels, guess.log(), 0.15, "pure")
    own, _ = floors(hard, inputs, labels, 0.15, "pure", window=k)
    whole, _ = floors(hard, inputs, labels, 0.15, "pure")
    difference = clustered(found - (own - whole), row)
    assert abs(difference.mean) < 4 * difference.standard_error
    assert clustered(found, row).mean > 0.1


def test_no_window_model_is_better_than_the_best_guess_of_its_window(hard, masked):
    """Its excess is at least the window's floor minus the floor, before and after some training."""
    inputs, labels = masked
    torch.manual_seed(0)
    shape = ModelConfig(len(hard.vocabulary), 32, 1, 1, 64, max_length=26, architecture="window", window=1)
    model = MaskedLanguageModel(shape)
    own, row = floors(hard, inputs, labels, 0.15, "pure", window=1)
    whole, _ = floors(hard, inputs, labels, 0.15, "pure")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    reached = []
    for step in range(41):
        if step in (0, 40):
            with torch.no_grad():
                log_q = model.eval()(inputs, inputs != PAD).log_softmax(dim=-1)[labels != IGNORED]
            found, _ = excesses(hard, inputs, labels, log_q)
            above = clustered(found - (own - whole), row)
            assert above.mean > -4 * above.standard_error
            reached.append(above.mean)
        seen, hidden = masked_sample(hard, MaskingConfig(0.15, "pure", "bernoulli"), 128, 1000 + step)
        logits = model.train()(seen, seen != PAD)
        loss = torch.nn.functional.cross_entropy(logits[hidden != IGNORED], hidden[hidden != IGNORED])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert reached[1] < reached[0] - 1  # it has learnt, and the bound still holds


def test_a_clustered_error_is_the_spread_of_the_sums_of_clusters():
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], dtype=torch.float64)
    estimate = clustered(values, torch.tensor([0, 0, 3, 3, 7]))
    mean = 31 / 5
    sums = [1 + 2 - 2 * mean, 4 + 8 - 2 * mean, 16 - mean]
    assert estimate.mean == pytest.approx(mean) and estimate.targets == 5
    assert estimate.standard_error == pytest.approx(math.sqrt(3 / 2 * sum(s * s for s in sums)) / 5)
    alone = clustered(values, torch.arange(5))  # every value by itself: the usual error of a mean
    assert alone.standard_error == pytest.approx(values.std().item() / math.sqrt(5))
    twice = clustered(values.repeat(2), torch.arange(5).repeat(2))  # the same values again tell nothing new
    assert twice.standard_error == pytest.approx(alone.standard_error)
    assert clustered(values[:1], torch.tensor([4])).standard_error == 0
