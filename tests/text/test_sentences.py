"""Fresh sentences: a function of seed and number, whoever reads them; held-out ones that never change; names."""

import numpy as np
import pytest
import torch

from llm_lab.config import MaskingConfig
from llm_lab.text import sentences as module
from llm_lab.text.baselines import ladder
from llm_lab.text.batches import fixed_batches
from llm_lab.text.grammar import LanguageNameError, easy_language, hard_language, language_named
from llm_lab.text.masking import IGNORED, mask_tokens, row_noise
from llm_lab.text.sentences import BLOCK, SentenceDataset, as_corpus, framed

MASKING = MaskingConfig(0.3, "80/10/10", "bernoulli")


@pytest.fixture(scope="module", params=["grammar", "grammar-easy"])
def dataset(request):
    return SentenceDataset(language_named(request.param))


@pytest.fixture(scope="module")
def hard():
    return SentenceDataset(hard_language())


def original(batch):
    """The rows before masking."""
    ids = batch.inputs.clone()
    row, k = (batch.targets != IGNORED).nonzero().T
    ids[row, batch.positions[row, k]] = batch.targets[row, k]
    return ids


def texts(batch, tokenizer):
    """The rows of a batch before masking, as text."""
    return [tokenizer.decode([i for i in row if i], skip_special_tokens=False) for row in original(batch).tolist()]


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["grammar", "grammar-easy", "grammar:7", "grammar-easy:3"])
def test_a_language_is_found_by_its_name(name):
    assert language_named(name).name == name


def test_names_of_seed_0_and_names_of_no_language():
    assert language_named("grammar:0").name == "grammar" and language_named("grammar-easy:0").name == "grammar-easy"
    assert language_named("grammar:007").name == "grammar:7"
    assert language_named("grammar:7") is hard_language(7)
    for other in ("docs", "hub:me/grammar", "grammars", "", "grammar.txt", "Grammar"):
        assert language_named(other) is None


@pytest.mark.parametrize("name", ["grammar:x", "grammar-easy:-1", "grammar:1.5", "grammar:3:4"])
def test_a_seed_that_is_no_number_is_refused(name):
    kind = name.partition(":")[0]
    with pytest.raises(LanguageNameError, match=f"'{name}' has no whole number after the colon: write {kind} or"):
        language_named(name)


# -- rows -------------------------------------------------------------------------------------------------------------


def test_a_row_is_a_framed_sentence(dataset):
    language, tokenizer = dataset.language, dataset.tokenizer
    ids = language.sample(50, 2)
    rows = framed(ids, tokenizer)
    assert rows.shape == (50, dataset.row_length) == (50, language.max_words + 2)
    for row, sentence in zip(rows.tolist(), ids, strict=True):
        expected = tokenizer.encode(language.text_of(sentence))
        assert row == expected + [0] * (len(row) - len(expected))


def test_held_out_sentences_never_change_and_are_not_those_of_training(dataset):
    again = SentenceDataset(dataset.language)
    assert dataset.held_out.shape == (module.NUM_HELD_OUT, dataset.row_length)
    assert np.array_equal(again.held_out, dataset.held_out)
    assert np.array_equal(dataset.held_out, framed(dataset.language.sample(2000, module.HELD_OUT), dataset.tokenizer))
    long = [row for row in map(tuple, dataset.held_out.tolist()) if sum(i > 0 for i in row) > 20]
    fresh = dataset.stream(MASKING, 64, seed=0)
    seen = set(map(tuple, dataset.train.tolist())) | {tuple(r) for r in fresh.ids_of(np.arange(2 * BLOCK)).tolist()}
    assert len(long) > 50 and not seen & set(long)


def test_what_a_run_writes_down_tells_languages_apart(dataset):
    about = dataset.about
    assert about["name"] == dataset.language.name and about["tokenizer"] == dataset.tokenizer.sha
    assert about == SentenceDataset(dataset.language).about and len(about["sha"]) == 64
    other = SentenceDataset(language_named(f"{dataset.language.name}:3")).about
    assert other["sha"] != about["sha"] and other["tokenizer"] == about["tokenizer"]
    assert dataset.evaluation_masking == MaskingConfig(0.15, "pure", "bernoulli")


def test_text_and_counts(dataset):
    language = dataset.language
    assert dataset.held_out_texts == [language.text_of(row) for row in language.sample(2000, module.HELD_OUT)]
    words = sum(len(text.split()) for text in dataset.held_out_texts)
    assert dataset.tokens_per_byte == pytest.approx(words / sum(len(text) for text in dataset.held_out_texts))
    counts = np.bincount(dataset.train.ravel(), minlength=len(language.vocabulary)) + 1.0
    counts[:5] = 0
    assert dataset.unigram == pytest.approx(counts / counts.sum())
    batches = fixed_batches(dataset.held_out[:100], dataset.tokenizer, dataset.evaluation_masking, 50)
    losses = [baseline.loss for baseline in ladder(dataset, batches)]
    assert losses == sorted(losses, reverse=True)  # each looks at more


def test_as_a_corpus():
    corpus = as_corpus(easy_language())
    assert corpus.name == "grammar-easy" and len(corpus.documents) == module.NUM_COUNTED
    ids = easy_language().sample(module.NUM_COUNTED, module.COUNTED)
    assert [document.text for document in corpus.documents[:50]] == [easy_language().text_of(row) for row in ids[:50]]
    assert corpus.split("train") and corpus.split("held_out")


# -- the stream -------------------------------------------------------------------------------------------------------


def test_a_sentence_is_a_function_of_seed_and_number(hard):
    stream = hard.stream(MASKING, 16, seed=5)
    language = hard.language
    for number in (0, 17, BLOCK - 1, BLOCK, 3 * BLOCK + 5):
        block = framed(language.sample(BLOCK, (module.TRAINING, 5, number // BLOCK)), hard.tokenizer)
        assert np.array_equal(stream.ids_of(np.array([number]))[0], block[number % BLOCK])
    other = hard.stream(MASKING, 16, seed=6).ids_of(np.arange(300))
    assert not np.array_equal(stream.ids_of(np.arange(300)), other)
    assert len(np.unique(stream.ids_of(np.array([0, BLOCK, 2 * BLOCK, 3 * BLOCK])), axis=0)) == 4


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_see_together_what_one_sees(hard, ranks):
    alone = hard.stream(MASKING, 24, seed=1)
    shares = [hard.stream(MASKING, 24, 1, rank, ranks) for rank in range(ranks)]
    for step in (0, 7, 170, 171):  # 170: numbers 4080 .. 4103, from two blocks
        epoch, row = alone.rows_of(step)
        assert sorted(row) == list(range(24 * step, 24 * step + 24)) and not epoch.any()
        parts = [share.rows_of(step)[1] for share in shares]
        assert sorted(np.concatenate(parts)) == sorted(row) and {len(part) for part in parts} == {24 // ranks}
        # Row by row: what is seen and what is asked, the padding left out.
        seen = dict(zip(row.tolist(), rows_of(alone.batch(step)), strict=True))
        for share, part in zip(shares, parts, strict=True):
            assert rows_of(share.batch(step)) == [seen[number] for number in part.tolist()]


def rows_of(batch):
    """(what is seen, what stood there) of each row, without padding."""
    pairs = zip(batch.inputs.tolist(), original(batch).tolist(), strict=True)
    return [tuple(tuple(i for i in row if i) for row in pair) for pair in pairs]


def test_a_resumed_stream_goes_on_where_it_stopped(hard):
    first = hard.stream(MASKING, 16, seed=2)
    through = [first.batch(step) for step in range(6)]
    for step in (5, 3):
        again = hard.stream(MASKING, 16, seed=2).batch(step)
        for name in ("inputs", "positions", "targets", "mask"):
            assert torch.equal(getattr(again, name), getattr(through[step], name))
    assert len({str(batch.inputs.tolist()) for batch in through}) == 6


def test_a_batch_holds_its_sentences_masked_by_their_own_noise(hard):
    stream = hard.stream(MASKING, 32, seed=3)
    for step in (0, 9):
        batch, (epoch, row) = stream.batch(step), stream.rows_of(step)
        ids = torch.from_numpy(stream.ids_of(row))
        longest = int((ids != 0).sum(dim=1).max())
        assert torch.equal(original(batch), ids[:, :longest]) and torch.equal(batch.mask, (ids != 0)[:, :longest])
        expected = mask_tokens(ids, MASKING, 4, range(5), len(hard.language.vocabulary), row_noise(3, epoch, row, 26))
        assert torch.equal(batch.inputs, expected.inputs[:, :longest])
        assert batch.num_tokens == int((ids != 0).sum())
        assert batch.num_targets == int((expected.labels != IGNORED).sum())
        lengths = (ids != 0).sum(dim=1).tolist()
        assert lengths == sorted(lengths)  # so that parts need little padding
        read = sum(part.inputs.numel() for part in batch.split(4))
        assert read < 0.75 * batch.inputs.numel()
        assert torch.isin(ids[:, 0], torch.tensor(2)).all()


def test_rows_that_can_not_be_shared_are_refused(hard):
    with pytest.raises(ValueError, match="10 rows can't be shared by 4 processes"):
        hard.stream(MASKING, 10, 0, 0, 4)
