"""The experiment behind lesson 16: its vectors, its measure of forgetting, and its choice of rates, by hand."""

import json

import pytest
import torch

from experiments import fine_tuning
from experiments.bench import FOLDER, Results
from llm_lab.model.heads import Classifier
from llm_lab.tasks.documentation_tasks import Parts
from llm_lab.tasks.labelled import Example
from llm_lab.tasks.masked_language_model import loss_sum
from llm_lab.text.batches import fixed_batches


@pytest.fixture
def checkpoint():
    return fine_tuning.checkpoint()


def test_frozen_vectors_are_the_means_of_texts_read_alone(checkpoint):
    texts = [
        "Returns the sum.",
        "A much longer sentence about the nodes and the edges of a graph.",
        "One array.",
        "Two.",
    ]
    examples = [Example(text, ("a",)) for text in texts]
    found = fine_tuning.frozen_vectors(examples)
    assert torch.equal(fine_tuning.frozen_vectors(examples[::-1]), found.flip(0))
    for text, vector in zip(texts, found, strict=True):
        ids = torch.tensor([checkpoint.tokenizer.encode(text)])
        assert torch.allclose(checkpoint.model.encoder(ids)[0].mean(dim=0), vector, atol=1e-4)


def test_what_is_forgotten_is_the_loss_of_the_old_head_on_the_new_encoder(checkpoint, monkeypatch, tiny_dataset):
    batches = fixed_batches(tiny_dataset.held_out[:4], tiny_dataset.tokenizer, tiny_dataset.evaluation_masking, 2)
    monkeypatch.setattr(fine_tuning, "masked_batches", lambda: batches)

    def by_hand(model):
        model.eval()
        with torch.no_grad():
            nats = sum(loss_sum(model, batch).item() for batch in batches)
        return nats / sum(batch.num_targets for batch in batches)

    assert fine_tuning.masked_loss() == pytest.approx(by_hand(checkpoint.model), rel=1e-5)
    tuned = Classifier(checkpoint.model.config, 3)
    tuned.encoder.load_state_dict(checkpoint.model.encoder.state_dict())
    assert fine_tuning.masked_loss(tuned) == pytest.approx(by_hand(checkpoint.model), rel=1e-6)
    before = checkpoint.model.encoder.embedding.weight.detach().clone()
    with torch.no_grad():
        tuned.encoder.blocks[0].attention.value.weight.zero_()
    assert fine_tuning.masked_loss(tuned) > by_hand(checkpoint.model) + 0.01
    assert torch.equal(checkpoint.model.encoder.embedding.weight, before)


def test_a_random_start_has_other_weights_for_each_seed_and_the_own_has_the_checkpoints(checkpoint):
    weights = [fine_tuning.start("random start", seed).model.encoder.embedding.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert fine_tuning.start("own checkpoint", 3) is checkpoint is fine_tuning.start("LoRA", 0)


def test_a_setting_is_chosen_on_validation_alone(tmp_path):
    results = Results("fine_tuning", tmp_path)
    for rate, validation, test in ((0.01, 0.5, 0.9), (0.1, 0.7, 0.2), (1.0, 0.6, 0.8)):
        results.add(
            {
                "method": "frozen",
                "pooling": "",
                "rate": rate,
                **fine_tuning.SEARCH,
                "validation": validation,
                "test": test,
            }
        )
    results.add(
        {"method": "frozen", "pooling": "", "rate": 1.0, "labels": 100, "seed": 1, "validation": 0.99, "test": 0.9}
    )
    assert fine_tuning.best(results, "frozen") == {"pooling": "", "rate": 0.1}


def test_counting_learns_a_task_of_words(monkeypatch):
    rows = [
        Example(f"the {word} of part {i}", (label,)) for i in range(8) for word, label in (("cat", "a"), ("dog", "b"))
    ]
    monkeypatch.setattr(fine_tuning, "parts", lambda: Parts(rows, rows[:6], rows[6:]))
    for method in fine_tuning.COUNTED:
        measured = fine_tuning.run(method, 5, 0, 10.0)
        assert (measured["validation"], measured["test"]) == (1.0, 1.0)


def test_the_stored_results_are_complete():
    stored = json.loads((FOLDER / "fine_tuning.json").read_text(encoding="utf-8"))
    assert stored["command"] == "python -m experiments.fine_tuning" and stored["machine"] and stored["date"]
    assert stored["masked_loss_before"] > 0
    results = Results("fine_tuning")
    missing = [key for key in fine_tuning.cells(results) if not results.done(**key)]
    assert not missing
