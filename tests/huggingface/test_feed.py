"""Batches for transformers: the same loss as ours, the shares of their collator, a stream that packs as `pack` does."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_lab.config import BERT_SHAPE, MaskingConfig, ModelConfig
from llm_lab.huggingface import (
    ExportError,
    batches_of,
    collator,
    for_transformers,
    packed_stream,
    to_transformers,
    to_transformers_tokenizer,
)
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import loss_sum
from llm_lab.text.packing import pack

SHAPE = ModelConfig(width=16, num_layers=2, num_heads=2, feed_forward_width=20, max_length=16)
ROWS, LENGTH = 3_000, 16


@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, **BERT_SHAPE)], ids=["our shape", "BERT's shape"])
@pytest.mark.parametrize("selection", ["exact", "bernoulli"])
def test_their_loss_on_our_batch_is_our_loss(shape, selection, tiny_dataset):
    stream = tiny_dataset.stream(MaskingConfig(0.2, "80/10/10", selection), batch_rows=6, seed=1)
    torch.manual_seed(0)
    ours = MaskedLanguageModel(replace(shape, vocabulary_size=tiny_dataset.tokenizer.vocabulary_size)).eval()
    theirs = to_transformers(ours, tiny_dataset.tokenizer)
    batch = stream.batch(0)
    with torch.no_grad():
        expected = (loss_sum(ours, batch) / batch.num_targets).item()
        assert theirs(**for_transformers(batch)).loss.item() == pytest.approx(expected, rel=1e-6)


def test_padding_and_filler_count_for_nothing(tiny_dataset):
    batch = tiny_dataset.stream(MaskingConfig(0.2, selection="bernoulli"), batch_rows=6, seed=1).batch(0)
    seen = torch.arange(batch.inputs.shape[1]) < torch.tensor([[16], [3], [9], [16], [1], [12]])
    given_to_them = for_transformers(replace(batch, mask=seen))
    assert torch.equal(given_to_them["attention_mask"], seen.long())
    assert (given_to_them["labels"] != -100).sum() == batch.num_targets < batch.targets.numel()


def masked_rows(their_tokenizer, scheme):
    """Rows of words only, masked by their collator."""
    first = max(their_tokenizer.all_special_ids) + 1
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(first, len(their_tokenizer), (ROWS, LENGTH), generator=draw)
    collate = collator(their_tokenizer, MaskingConfig(0.15, scheme, "bernoulli"), seed=0)
    return ids, collate([{"input_ids": row} for row in ids.tolist()])


def test_the_shares_of_their_collator_are_those_of_bert(tiny_tokenizer):
    theirs = to_transformers_tokenizer(tiny_tokenizer, LENGTH)
    ids, batch = masked_rows(theirs, "80/10/10")
    chosen = batch["labels"] != -100
    assert torch.equal(batch["labels"][chosen], ids[chosen])
    assert torch.equal(batch["input_ids"][~chosen], ids[~chosen])
    seen = batch["input_ids"][chosen]
    kinds = Counter(
        "mask" if now == theirs.mask_token_id else "kept" if now == was else "random"
        for now, was in zip(seen.tolist(), ids[chosen].tolist(), strict=True)
    )
    count = chosen.sum().item()
    assert count / ids.numel() == pytest.approx(0.15, abs=0.005)
    assert [kinds[kind] / count for kind in ("mask", "random", "kept")] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert len(set(chosen.sum(dim=1).tolist())) > 4  # each token by itself: no two rows need the same number


def test_the_pure_scheme_leaves_masks_alone(tiny_tokenizer):
    theirs = to_transformers_tokenizer(tiny_tokenizer, LENGTH)
    _, batch = masked_rows(theirs, "pure")
    assert (batch["input_ids"][batch["labels"] != -100] == theirs.mask_token_id).all()


def test_an_exact_count_is_refused(tiny_tokenizer):
    with pytest.raises(ExportError, match="give MaskingConfig bernoulli"):
        collator(to_transformers_tokenizer(tiny_tokenizer, LENGTH), MaskingConfig(0.15))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 11))
def test_a_stream_packs_as_the_whole_corpus_does(lengths, row_length):
    texts = [chr(65 + i) * length for i, length in enumerate(lengths)]
    framed = [[2, *map(ord, text), 3] for text in texts]
    rows = [row["input_ids"] for row in packed_stream(texts, lambda text: [2, *map(ord, text), 3], row_length)]
    total = sum(map(len, framed))
    assert rows == (pack(framed, row_length).tolist() if total >= row_length else [])


def test_a_stream_is_read_no_further_than_needed(tiny_tokenizer):
    def endless():
        while True:
            yield "Each array has a colour."

    theirs = to_transformers_tokenizer(tiny_tokenizer, LENGTH)
    collate = collator(theirs, MaskingConfig(0.3, selection="bernoulli"), seed=0)
    batches = batches_of(packed_stream(endless(), tiny_tokenizer.encode, LENGTH), collate, 4)
    for _ in range(2):
        batch = next(batches)
        assert batch["input_ids"].shape == batch["labels"].shape == (4, LENGTH)


def test_rows_that_fill_no_batch_are_left_out():
    assert list(batches_of([{"n": i} for i in range(7)], len, 3)) == [3, 3]
