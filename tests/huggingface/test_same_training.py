"""Two hundred steps in transformers and here: the same losses at every step.

The rate is a moderate one. At 0.003 the rounding of two equal ModernBERTs grows from step to step, to 0.03 nats.
"""

from dataclasses import replace

import pytest
import torch

from llm_lab.config import BERT_SHAPE, MaskingConfig, ModelConfig
from llm_lab.huggingface import for_transformers, from_transformers, to_transformers
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import loss_sum
from llm_lab.text.grammar import hard_language
from llm_lab.text.sentences import SentenceDataset

STEPS, RATE, LIMIT = 200, 1e-3, 1e-4
SHAPE = ModelConfig(width=32, num_layers=2, num_heads=2, feed_forward_width=64, max_length=32)


def losses(model, loss_of, batches):
    """The loss of every step of AdamW."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    found = []
    for batch in batches:
        loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return torch.tensor(found)


@pytest.fixture(scope="module")
def known():
    """The known language and batches of 16 sentences, some of them padded."""
    dataset = SentenceDataset(hard_language())
    stream = dataset.stream(MaskingConfig(0.3, selection="bernoulli"), 16, seed=0)
    return dataset, [stream.batch(step) for step in range(STEPS)]


def pair(dataset, shape):
    """A fresh model of theirs and its copy here, without dropout, in training mode."""
    torch.manual_seed(0)
    fresh = MaskedLanguageModel(replace(SHAPE, vocabulary_size=dataset.tokenizer.vocabulary_size, **shape))
    theirs = to_transformers(fresh, dataset.tokenizer).train()
    return theirs, from_transformers(theirs).train()


@pytest.mark.parametrize("shape", [BERT_SHAPE, {}], ids=["BertForMaskedLM", "ModernBertForMaskedLM"])
def test_the_losses_of_200_steps_are_the_same(shape, known):
    dataset, batches = known
    theirs, ours = pair(dataset, shape)
    if shape:  # BERT's vector for "first text" would be a second bias of every position: ours has one
        theirs.bert.embeddings.token_type_embeddings.requires_grad_(False)
    expected = losses(theirs, lambda batch: theirs(**for_transformers(batch)).loss, batches)
    found = losses(ours, lambda batch: loss_sum(ours, batch) / batch.num_targets, batches)
    assert expected[0] > 5 and expected[-20:].mean() < 4.7 and any(batch.mask is not None for batch in batches)
    assert (found - expected).abs().max() < LIMIT


def test_a_trained_segment_vector_is_another_training(known):
    dataset, batches = known
    theirs, ours = pair(dataset, BERT_SHAPE)
    expected = losses(theirs, lambda batch: theirs(**for_transformers(batch)).loss, batches[:20])
    found = losses(ours, lambda batch: loss_sum(ours, batch) / batch.num_targets, batches[:20])
    assert found[0] == pytest.approx(expected[0].item(), abs=LIMIT)
    assert (found - expected).abs().max() > LIMIT
