"""What each patient with a wrong model does wrong, and the doctor's word for it."""

from __future__ import annotations

import pytest
import torch

from llm_lab.train.doctor import examine
from llm_lab.ward import DATASET, PATIENTS, TrainingRun
from llm_lab.ward.model_bugs import PrintedAttention
from tests.train.doctor.runs import SMALL


@pytest.mark.parametrize("name", ["MaskPolarity", "EmptyRow", "LayerInForward", "Orphaned"])
def test_the_doctor_names_it_and_nothing_else(name):
    findings = examine(PATIENTS[name].run(**SMALL).subject())
    assert [finding.name for finding in findings] == [PATIENTS[name].diagnosis]


def test_the_mask_is_used_upside_down():
    sick, well = PATIENTS["MaskPolarity"].run(**SMALL), TrainingRun(**SMALL)
    batch = well.stream.batch(0)
    for call in (lambda model, mask: model(batch.inputs, mask), lambda m, mask: m.encoder(batch.inputs, mask)):
        assert torch.equal(call(sick.model.eval(), ~batch.mask), call(well.model.eval(), batch.mask))


def test_the_printed_attention_is_the_packages_own_where_there_is_something_to_read():
    torch.manual_seed(0)
    ours = TrainingRun(**SMALL).model.encoder.blocks[0].attention
    printed = PrintedAttention(SMALL["width"], ours.num_heads)
    printed.load_state_dict(ours.state_dict())
    x, mask = torch.randn(2, 5, SMALL["width"]), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()[:, None, None]
    torch.testing.assert_close(printed(x, x, mask), ours(x, x, mask))
    mask[0] = False
    assert printed(x, x, mask)[0].isnan().all() and ours(x, x, mask).isfinite().all()


def test_an_empty_row_comes_and_ends_the_run():
    run = PATIENTS["EmptyRow"].run(**SMALL)
    assert [s for s in range(100) if not run.stream.batch(s).mask.any(dim=1).all()] == [89]
    assert torch.isfinite(torch.tensor(run.update(88)["loss"]))
    records = [run.update(step) for step in (89, 90)]
    assert records[-1]["loss"] != records[-1]["loss"]  # NaN


def test_a_layer_in_forward_is_new_at_every_call():
    run, batch = PATIENTS["LayerInForward"].run(**SMALL), DATASET.stream(TrainingRun.masking, 4, 0).batch(0)
    model = run.model.eval()
    assert not torch.equal(model(batch.inputs), model(batch.inputs))
    assert len(list(model.parameters())) == len(list(TrainingRun(**SMALL).model.parameters()))


def test_the_orphan_gets_gradients_and_never_moves():
    run = PATIENTS["Orphaned"].run(**SMALL)
    weight = run.model.encoder.embedding.weight
    before, head = weight.detach().clone(), run.model.head.dense.weight.detach().clone()
    run.update(5)
    assert weight.grad.any() and torch.equal(weight, before)
    assert not torch.equal(run.model.head.dense.weight, head)
