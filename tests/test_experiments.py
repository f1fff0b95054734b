"""The streams, losses and result files behind lessons 10 and 12, held against the package and against definitions."""

import json

import numpy as np
import pytest
import torch

from experiments import architectures, ladder, ladder_rows, ladder_streams, plateau
from experiments.bench import FOLDER, Results, train
from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import loss_sum
from llm_lab.text.masking import choose_targets, row_noise

CONFIG = TrainConfig(steps=6, batch_rows=8, row_length=16, precision="fp32", device="cpu", evaluate_every=100)


@pytest.fixture
def noise(tiny_dataset):
    """Noise for the first eight training rows, special tokens out of reach, and their ids."""
    ids = torch.from_numpy(tiny_dataset.train[:8].astype(np.int64))
    special = torch.isin(ids, torch.tensor(tiny_dataset.tokenizer.special_ids))
    uniform = row_noise(0, np.zeros(8, np.int64), np.arange(8), ids.shape[1])[0]
    return ids, uniform, uniform.masked_fill(special, 2.0)


def stream(dataset, **change):
    """The ladder's stream for a row with these changes."""
    row = ladder_rows.Row("test", "test", **change)
    return ladder_streams.LadderStream(row, dataset, MaskingConfig(), CONFIG)


def test_the_base_is_the_packages_own_stream(tiny_dataset):
    for step in (0, 5, 11):
        ours = stream(tiny_dataset).batch(step)
        theirs = tiny_dataset.stream(MaskingConfig(), CONFIG.batch_rows, CONFIG.seed).batch(step)
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.positions, theirs.positions) and torch.equal(ours.targets, theirs.targets)


def test_single_tokens_are_those_that_the_package_chooses(tiny_dataset, noise):
    ids, uniform, order = noise
    wanted = ((order < 2).sum(dim=1) * 0.3).round().long().clamp(min=1)
    theirs = choose_targets(ids, MaskingConfig(), tiny_dataset.tokenizer.special_ids, uniform)
    assert torch.equal(ladder_streams.lowest(order, wanted), theirs)


def test_whole_words_are_hidden_whole_and_not_too_many(noise):
    _, _, order = noise
    continues = torch.rand(order.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    continues[:, 0] = False
    wanted = torch.full((len(order),), 5)
    hidden = ladder_streams.whole_words(order, wanted, continues)
    for b in range(len(order)):
        words: list[list[int]] = []
        for t in range(order.shape[1]):
            words.append([t]) if not continues[b, t] or not words else words[-1].append(t)
        shares = [hidden[b, [t for t in word if order[b, t] < 2]].float().mean() for word in words]
        assert all(share in (0, 1) or share.isnan() for share in shares)
        assert 0 < hidden[b].sum() <= 5


def test_spans_are_runs_of_neighbours_with_the_wanted_count(noise):
    _, _, order = noise
    wanted = torch.full((len(order),), 6)
    hidden = ladder_streams.spans(order, wanted)
    assert hidden.sum(dim=1).tolist() == [6] * len(order) and not hidden[order == 2].any()
    runs = (hidden[:, 1:] & hidden[:, :-1]).sum()
    single = ladder_streams.lowest(order, wanted)
    assert runs > 1.5 * (single[:, 1:] & single[:, :-1]).sum()  # more neighbours than chance gives


def test_static_masks_stay_and_dynamic_ones_change(tiny_dataset):
    rows = len(tiny_dataset.train)
    assert rows >= CONFIG.batch_rows
    few = {"corpus_rows": CONFIG.batch_rows}

    def hidden_by_row(static, step):
        one = stream(tiny_dataset, static=static, **few)
        _, number = one.rows_of(step)
        masked = one.batch(step).inputs == tiny_dataset.tokenizer.mask_id
        return masked[np.argsort(number)]

    assert torch.equal(hidden_by_row(True, 0), hidden_by_row(True, 1))
    assert not torch.equal(hidden_by_row(False, 0), hidden_by_row(False, 1))


def test_the_ramps_grow(tiny_dataset):
    batches = [stream(tiny_dataset, batch_ramp=True).batch(step) for step in (0, 2, 4)]
    assert [len(batch.inputs) for batch in batches] == [2, 4, 8]
    short = [stream(tiny_dataset, length_ramp=True).batch(step) for step in (0, 2, 4)]
    length = tiny_dataset.train.shape[1]
    assert [batch.inputs.shape[1] for batch in short] == [length // 4, length // 2, length]
    assert len({batch.inputs.numel() for batch in short}) == 1


def test_padded_rows_hold_every_token_once(tiny_dataset):
    rows = ladder_streams.padded_rows(tiny_dataset, 16)
    documents = tiny_dataset.tokenizer.encode_many([d.text for d in tiny_dataset.corpus.split("train")])
    assert rows[rows != tiny_dataset.tokenizer.pad_id].tolist() == [token for ids in documents for token in ids]


def test_logits_everywhere_give_the_same_loss(tiny_dataset):
    torch.manual_seed(0)
    shape = ModelConfig(
        tiny_dataset.tokenizer.vocabulary_size, width=16, num_layers=2, num_heads=2, feed_forward_width=16
    )
    model = MaskedLanguageModel(shape).double()
    batch = stream(tiny_dataset).batch(0)
    # The dense loss casts to fp32, as scripts do.
    assert torch.allclose(ladder.dense_loss_sum(model, batch).double(), loss_sum(model, batch), rtol=1e-5)


def test_averaged_weights_follow_the_formula(tiny_dataset):
    shape = ModelConfig(
        tiny_dataset.tokenizer.vocabulary_size, width=16, num_layers=1, num_heads=2, feed_forward_width=16
    )

    def run(steps, averaging):
        torch.manual_seed(0)
        model = MaskedLanguageModel(shape)
        config = TrainConfig(**{**CONFIG.__dict__, "steps": steps, "warmup": 0.0, "decay": 0.0})
        train(model, stream(tiny_dataset), config, lambda m: {}, averaging=averaging)
        return model.encoder.embedding.weight.detach().clone()

    by_hand = run(1, 0.0)
    for step in (1, 2):
        decay = min(0.5, (1 + step) / (10 + step))
        by_hand = decay * by_hand + (1 - decay) * run(step + 1, 0.0)
    assert torch.allclose(run(3, 0.5), by_hand, atol=1e-6)


def test_a_run_can_be_ended_early(tiny_dataset):
    shape = ModelConfig(
        tiny_dataset.tokenizer.vocabulary_size, width=16, num_layers=1, num_heads=2, feed_forward_width=16
    )
    model = MaskedLanguageModel(shape)
    measured = train(model, stream(tiny_dataset), CONFIG, lambda m: {}, stop=lambda records: len(records) == 2)
    assert measured["steps"] == 3 < CONFIG.steps


def test_results_survive_a_break_and_name_another_machine(tmp_path):
    first = Results("mine", tmp_path)
    first.add({"row": "a", "seed": 0, "loss": 1.0})
    first.content["machine"] = "another"
    first.save()
    again = Results("mine", tmp_path)
    again.add({"row": "a", "seed": 1, "loss": 2.0})
    stored = json.loads((tmp_path / "mine.json").read_text())
    assert [run["loss"] for run in stored["runs"]] == [1.0, 2.0]
    assert "machine" not in stored["runs"][0] and stored["runs"][1]["machine"] != "another" == stored["machine"]
    assert again.done(row="a", seed=1)["loss"] == 2.0 and again.done(row="b") is None


@pytest.mark.parametrize("name", ["ladder", "plateau", "architectures"])
def test_the_stored_results_are_complete(name):
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert stored["command"] == f"python -m experiments.{name}" and stored["machine"] and stored["date"]
    results = Results(name)
    if name == "ladder":
        for row in ladder.LADDER.values():
            rate = ladder.best_rate(results, row)
            assert all(results.done(row=row.name, seed=s, steps=ladder.STEPS, learning_rate=rate) for s in ladder.SEEDS)
        assert set(stored["speed"]) == set(stored["megabytes"]) == set(ladder.LADDER)
    elif name == "plateau":
        for block in (*plateau.BLOCKS, *plateau.PARTS):
            assert len([run for run in stored["runs"] if run["block"] == block and run["corpus_name"] == "docs"]) >= 3
    else:
        for kind in architectures.KINDS:
            assert {run["seed"] for run in stored["runs"] if run["kind"] == kind} == set(architectures.SEEDS)
