"""The contestants of the benchmarks: equal size, equal batches, our own step, and products that formula and counter
count alike.
"""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import batches, contestants, memory, profiling, scaling, throughput
from benchmarks.__main__ import main
from benchmarks.contestants import CONTESTANTS, OURS, STEPS, Setup, Variant, operations, parameters_of
from benchmarks.ladder import ALL, LEVERS, build, loss_with, rows_of_ladder
from benchmarks.work import SIZES, Size, step_flops
from llm_lab.config import TrainConfig
from llm_lab.model import attention
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import loss_sum
from llm_lab.text.masking import IGNORED
from llm_lab.train.loop import Trainer

SMALL = Size("small", width=64, layers=3, heads=4, vocabulary=512, length=32, rows=4)
FP32, BF16 = Setup(torch.device("cpu"), "fp32"), Setup(torch.device("cpu"), "bf16")
EAGER_RUNS = [(c.name, v) for c in CONTESTANTS.values() for v in c.variants if not v.compiled]


def built(name: str, setup: Setup = FP32, shelf: batches.Shelf | None = None, variant: Variant | None = None):
    """Return a contestant of the small size."""
    return CONTESTANTS[name].build(SMALL, setup, shelf or batches.full_rows(SMALL, 2), variant)


# -- equal -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["S", "M", "34M"])
def test_all_have_our_number_of_parameters(size: str) -> None:
    """ModernBERT's and ours have the same matrices, so the very same number."""
    shelf = batches.Shelf([])
    counts = {
        name: parameters_of(one.build(SIZES[size], FP32, shelf, Variant()))
        for name, one in CONTESTANTS.items()
        if size != "34M" or name in (OURS, "BERT", "ModernBERT")
    }
    contestants.require_equal_size(counts)
    assert counts["ModernBERT"] == counts[OURS]
    assert math.isclose(counts[OURS], {"S": 0.95e6, "M": 5.3e6, "34M": 33.6e6}[size], rel_tol=0.02)


def test_a_larger_contestant_is_refused() -> None:
    with pytest.raises(ValueError, match="no fair comparison"):
        contestants.require_equal_size({OURS: 100, "BERT": 104})


@pytest.mark.parametrize("name,variant", EAGER_RUNS)
def test_the_first_loss_is_that_of_guessing(name: str, variant: Variant) -> None:
    assert abs(built(name, variant=variant).take() - math.log(SMALL.vocabulary)) < 0.1


def test_all_read_the_same_batch_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, list[int]] = {}

    class Noting(batches.Shelf):
        """A shelf that notes what it hands out."""

        def batch(self, step: int):
            """Batch number `step`."""
            chosen = super().batch(step)
            given.setdefault(self.reader, []).append(id(chosen))
            return chosen

    shared = batches.full_rows(SMALL, 2).batches
    for name in CONTESTANTS:
        shelf = Noting(shared)
        shelf.reader = name
        monkeypatch.setattr(torch, "compile", lambda work: work)
        runner = CONTESTANTS[name].build(SMALL, FP32, shelf, CONTESTANTS[name].variants[0])
        for _ in range(3):
            runner.take()
    assert set(map(tuple, given.values())) == {tuple(map(id, [*shared, shared[0]]))}


def test_ours_is_the_package_s_training_step(tmp_path: Path) -> None:
    """The same losses and, to the last bit, the same weights as a run of the package's trainer."""
    shelf = batches.full_rows(SMALL, 3)
    ours = built(OURS, shelf=shelf)
    losses = [ours.take() for _ in range(3)]
    torch.manual_seed(0)
    model = MaskedLanguageModel(contestants.our_config(SMALL))
    settings = TrainConfig(
        steps=STEPS,
        batch_rows=4,
        row_length=32,
        learning_rate=contestants.LEARNING_RATE,
        precision="fp32",
        device="cpu",
    )
    trainer = Trainer(model, shelf, loss_sum, settings, tmp_path, show_progress=False)
    assert losses == [trainer._train_step()[0]["loss"] for _ in range(3)]
    for mine, theirs in zip(ours.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


# -- products ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name,variant", EAGER_RUNS)
def test_formula_and_counter_agree(name: str, variant: Variant, setup: Setup) -> None:
    shelf = batches.full_rows(SMALL, 1)
    counted = operations(built(name, setup, shelf, variant), shelf.batch(0))
    assert counted["step"] == step_flops(SMALL, CONTESTANTS[name].way(SMALL, setup, variant))
    assert (counted["optimizer"] > 0) == (CONTESTANTS[name].optimizer == "muon" and CONTESTANTS[name].kind == "ours")


def test_the_formula_by_hand() -> None:
    """One layer, one row, dense, plain attention and a plain feed-forward: 6 operations a weight and token."""
    size = Size("", width=8, layers=1, heads=2, vocabulary=32, length=4, rows=1)
    weights = 4 * 8 * 8 + 2 * 8 * 32 + 8 * 8 + 8 * 32
    mixing = 3 * 2 * (2 * 4 * 4 * 8)
    way = contestants.Way(gated=False, sparse_head=False, sparse_last=False, fused=False)
    assert step_flops(size, way) == 6 * weights * 4 + mixing


# -- batches -----------------------------------------------------------------------------------------------------------


def test_padded_and_packed_hold_the_same_documents() -> None:
    texts = batches.documents(SMALL, 6)
    shelves = batches.ragged(SMALL, 6)
    assert shelves["padded"].num_tokens == sum(map(len, texts))
    packed = shelves["packed"]
    assert packed.num_tokens == packed.num_places <= sum(map(len, texts))
    hidden = torch.cat([batch.inputs for batch in packed.batches]).flatten()
    stream = torch.tensor(sum(texts, []))[: len(hidden)]
    assert torch.equal(hidden[hidden != batches.MASK], stream[hidden != batches.MASK])
    assert any(batch.mask is not None for batch in shelves["padded"].batches)


def test_a_shelf_hides_the_size_s_share() -> None:
    shelf = batches.full_rows(SMALL, 2)
    assert all(batch.num_targets == 4 * round(32 * 0.15) and batch.mask is None for batch in shelf.batches)
    assert not torch.equal(shelf.batches[0].inputs, shelf.batches[1].inputs)


def test_dense_labels_say_what_positions_and_targets_say() -> None:
    for batch in batches.ragged(SMALL, 2)["padded"].batches:
        labels = batches.dense_labels(batch).numpy()
        said = {
            (row, int(p), int(t))
            for row in range(len(labels))
            for p, t in zip(batch.positions[row], batch.targets[row], strict=True)
            if t != IGNORED
        }
        assert said == {(r, c, labels[r, c]) for r, c in zip(*np.nonzero(labels != IGNORED), strict=True)}


# -- levers and checkpointing change the time, not the loss ------------------------------------------------------------


def loss_and_gradients(model: torch.nn.Module, loss) -> list[torch.Tensor]:
    """Return the loss and the gradient of each parameter."""
    model.zero_grad()
    value = loss()
    value.backward()
    return [value.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


def relative_errors(first: list[torch.Tensor], second: list[torch.Tensor]) -> list[float]:
    """Return |a - b| / |b| of each pair."""
    return [float((a - b).norm() / b.norm()) for a, b in zip(first, second, strict=True)]


def test_every_rung_of_the_ladder_has_the_same_loss_and_gradients() -> None:
    """On padded rows; the expected ones are the package's own."""
    torch.manual_seed(0)
    model = MaskedLanguageModel(contestants.our_config(SMALL))
    batch = batches.ragged(SMALL, 1)["padded"].batches[0]
    expected = loss_and_gradients(model, lambda: loss_sum(model, batch))
    for name, levers in rows_of_ladder().items():
        found = loss_and_gradients(model, lambda levers=levers: loss_with(levers)(model, batch))
        assert max(relative_errors(found, expected)) < 1e-5, name


def test_a_rung_pulls_its_levers(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = batches.full_rows(SMALL, 1)
    plain, used = attention.attention_batched, []
    monkeypatch.setattr(attention, "attention_batched", lambda *inputs: used.append(1) or plain(*inputs))
    naive, best = build(frozenset(), SMALL, FP32, shelf), build(ALL, SMALL, FP32, shelf)
    assert (naive.model.config.dropout, best.model.config.dropout) == (0.1, 0.0)
    assert [build(levers, SMALL, BF16, shelf).precision for levers in (frozenset(), ALL)] == ["fp32", "bf16"]
    best.take()
    assert not used
    naive.take()
    assert len(used) == SMALL.layers
    assert all(f"all but {lever}" in rows_of_ladder() for lever in LEVERS)


def test_checkpointing_keeps_loss_and_gradients() -> None:
    shelf = batches.full_rows(SMALL, 1)
    plain, saved = built(OURS, shelf=shelf), built(OURS, shelf=shelf)
    memory.checkpoint_blocks(saved)
    one = loss_and_gradients(plain.model, lambda: plain.mean_loss(shelf.batch(0)))
    other = loss_and_gradients(saved.model, lambda: saved.mean_loss(shelf.batch(0)))
    assert max(relative_errors(one, other)) < 1e-6


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    """The parent holds 400 MB; the child's peak knows nothing of them."""
    ballast = torch.ones(100_000_000)
    taken = memory.apart(memory.measure, OURS, "full", SMALL, FP32, Variant(), 1)
    assert 0 < taken["before_mb"] < taken["peak_mb"] < memory.resident("VmRSS")
    assert len(ballast) > 0  # it is held until here


# -- who isn't there ---------------------------------------------------------------------------------------------------


def test_what_is_not_installed_is_skipped_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    plan = throughput.Plan(SMALL, FP32, 1, "full", 1, 1, compiled=False, memory=False, peak_size=64)
    plan.names = [OURS, "BERT", "nn.TransformerEncoder"]
    measured = throughput.run(plan)
    assert [one["name"] for one in measured["contestants"]] == [OURS, "nn.TransformerEncoder"]
    sentence = "BERT: skipped, transformers is not installed (pip install transformers)."
    assert measured["skipped"] == [sentence] and sentence in capsys.readouterr().out


def test_learning_without_transformers_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["learning", "--quick", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "BERT: skipped, transformers is not installed (pip install transformers).\n"
    assert not list(tmp_path.iterdir())


def test_the_fastest_variant_competes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's compiled path, run here without a compiler; a variant that fails to compile is left out."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda work: compiled.append(work) or work)
    plan = throughput.Plan(SMALL, FP32, 1, "full", 1, 1, peak_size=64)
    shelf = batches.full_rows(SMALL, 1)
    entry = throughput.prepare(CONTESTANTS["BERT, tuned"], "full", shelf, plan)
    assert entry is not None and len(entry.trials) == 4 and len(compiled) == 2
    assert entry.trials[entry.variant.name] == min(entry.trials.values())

    def broken(work):
        """Return a function that fails when it is first called, as without a C++ compiler."""

        def fail(*_, **__):
            raise RuntimeError("no compiler")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    assert throughput.prepare(CONTESTANTS["ours, compiled"], "full", shelf, plan) is None


# -- profile and scaling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chain,group",
    [
        (["aten::mm", "aten::matmul", "aten::linear"], "matrix products"),
        (["aten::mm", "Optimizer.step#Muon.step"], "optimizer"),
        (["aten::mm", "_ChunkedCrossEntropy"], "loss"),
        (["aten::gelu_backward", "GeluBackward0"], "norms and activations"),
        (["aten::_scaled_dot_product_flash_attention_for_cpu"], "attention"),
        (["aten::argsort", "benchmark: data"], "data"),
        (["aten::cat"], "other operators"),
    ],
)
def test_an_operator_belongs_to_its_outermost_caller(chain: list[str], group: str) -> None:
    assert profiling.group_of(chain) == group


def test_the_shares_of_a_profile_are_all_there() -> None:
    shares = profiling.run(SMALL, FP32, 1, 2)["shares"]
    assert math.isclose(sum(shares.values()), 1, abs_tol=1e-3)
    assert all(share > 0 for share in shares.values())


def test_an_axis_changes_one_thing() -> None:
    assert scaling.along(SMALL, "length", (16, 64))[64] == Size("small", 64, 3, 4, 512, 64, 2)
    assert scaling.along(SMALL, "layers", (1,))[1].layers == 1
