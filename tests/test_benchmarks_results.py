"""The benchmarks' arithmetic, files, plans and pages, on made-up measurements; and every command, small."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks import __main__ as entry
from benchmarks import batches, learning, machine, tables
from benchmarks.results import Measurements, newest
from benchmarks.timing import interleave, ratios, spread
from benchmarks.work import SIZES, Size
from llm_lab.tasks.masked_language_model import score
from llm_lab.text.masking import IGNORED

ABOUT = {"processor": "Some CPU 3000", "cores": 2, "instruction_sets": ["avx2"], "isa_limit": "", "versions": {}}


# -- arithmetic --------------------------------------------------------------------------------------------------------


def test_turns_are_timed_and_every_round_starts_with_another() -> None:
    now, order = [0.0], []

    def turn(name: str, seconds: float):
        """Return a turn that takes this long on the clock of the test."""

        def take() -> None:
            order.append(name)
            now[0] += seconds

        return take

    taken = interleave({"a": turn("a", 1), "b": turn("b", 3), "c": turn("c", 5)}, 4, lambda: now[0])
    assert taken == {"a": [1] * 4, "b": [3] * 4, "c": [5] * 4}
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"


def test_ratios_are_taken_round_by_round() -> None:
    """The second round was twice as slow for both: a ratio of medians would hide that nothing changed."""
    assert ratios([1.0, 2.0, 1.0], [3.0, 6.0, 4.0]) == [3.0, 3.0, 4.0]
    assert ratios([1.0], [1.0], our_work=50, their_work=100) == [0.5]
    assert spread([3.0, 4.0, 3.5]) == (3.5, 3.0, 4.0)


def test_a_card_is_known_by_its_longest_name() -> None:
    assert machine.known_peak("NVIDIA H100 80GB HBM3") == 989
    assert machine.known_peak("NVIDIA H100 PCIe") == 756
    assert machine.known_peak("Tesla T4") == 65
    assert machine.known_peak("NVIDIA L40S") == 362
    assert machine.known_peak("Some GPU") is None


def test_a_machine_is_named_by_what_decides_its_speed() -> None:
    assert machine.slug(ABOUT) == "some-cpu-3000-avx2"
    assert machine.slug({**ABOUT, "instruction_sets": ["avx2", "avx512f", "amx_tile"]}) == "some-cpu-3000-amx-tile"
    assert machine.slug({**ABOUT, "isa_limit": "AVX512_CORE"}) == "some-cpu-3000-avx512-core"
    assert machine.slug({**ABOUT, "card": "Tesla T4"}) == "tesla-t4"
    about = machine.describe()
    assert about["versions"]["torch"] == torch.__version__ and about["instruction_sets"]


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_results_file_comes_back_as_it_was(tmp_path: Path) -> None:
    results = Measurements("throughput", ABOUT, tmp_path)
    results.replace({"size": "M", "threads": 1, "seconds": [0.1, 0.25]}, "size", "threads")
    results.replace({"size": "M", "threads": 2, "seconds": [0.3]}, "size", "threads")
    results.replace({"size": "M", "threads": 1, "seconds": [0.5]}, "size", "threads")
    again = Measurements("throughput", ABOUT, tmp_path)
    assert again.content == results.content == newest("throughput", tmp_path)[0]
    assert [(run["threads"], run["seconds"]) for run in again.runs] == [(2, [0.3]), (1, [0.5])]
    assert again.content["machine"] == ABOUT and again.path.name.startswith("throughput-some-cpu-3000-avx2-20")


def test_learning_goes_on_in_its_newest_file_and_pages_show_the_newest(tmp_path: Path) -> None:
    for day, loss in (("2026-01-01", 5.0), ("2026-02-01", 4.0)):
        old = {"machine": ABOUT, "date": day, "runs": [{"seed": 0, "held_out_loss": loss}]}
        (tmp_path / f"learning-some-cpu-3000-avx2-{day}.json").write_text(json.dumps(old))
    going_on = Measurements("learning", ABOUT, tmp_path, go_on=True)
    assert going_on.done(seed=0) == {"seed": 0, "held_out_loss": 4.0}
    assert Measurements("learning", ABOUT, tmp_path).runs == []
    assert [content["date"] for content in newest("learning", tmp_path)] == ["2026-02-01"]


def test_the_command_line_is_kept_without_a_folder() -> None:
    assert entry._command_line(["ladder", "--out", "/somewhere", "--only", "ours, AdamW"]) == (
        "python -m benchmarks ladder --only 'ours, AdamW'"
    )


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "truth,expected", [(0.5, [10, 5, 2, 1]), (3, [10, 5, 2]), (7, [10, 5]), (15, [10, 20]), (99, [10, 20])]
)
def test_budgets_close_in_on_the_answer(truth: float, expected: list[int]) -> None:
    reached: dict[int, bool] = {}
    while (multiple := learning.next_multiple(reached, learning.MULTIPLES)) is not None:
        reached[multiple] = multiple >= truth
    assert list(reached) == expected


def test_the_learning_rate_rises_and_falls_with_time() -> None:
    assert learning.share(0.0) < 0.05 and learning.share(0.3) == 1.0
    assert math.isclose(learning.share(0.8), 0.5) and learning.share(1.0) == 0.0


def test_bert_s_loss_is_its_score_and_muon_leaves_its_embedding_alone() -> None:
    size = Size("", 32, 2, 2, 128, 16, 4)
    torch.manual_seed(0)
    model = learning.Theirs(size, "fp32").eval()
    batch = batches.full_rows(size, 1).batches[0]
    mean = learning.their_loss_sum(model, batch).item() / batch.num_targets
    assert math.isclose(mean, score(model, [batch])["held_out_loss"], rel_tol=1e-5)
    logits = model.model(input_ids=batch.inputs).logits
    labels = batches.dense_labels(batch)
    by_hand = F.cross_entropy(logits[labels != IGNORED], labels[labels != IGNORED])
    assert math.isclose(mean, by_hand.item(), rel_tol=1e-5)
    adamw, muon = learning.their_optimizers(model, "muon", 1e-3, 0.05, torch.float32)
    moved = {id(p) for group in muon.param_groups for p in group["params"]}
    assert id(model.model.get_output_embeddings().weight) not in moved and len(moved) == 6 * 2 + 1
    others = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert moved | others == {id(p) for p in model.parameters()} and not moved & others


@pytest.mark.parametrize("model", list(learning.RATES))
def test_a_run_ends_with_its_time(model: str) -> None:
    size = {name: getattr(SIZES["quick"], name) for name in Size.__dataclass_fields__}
    run = learning.train(model, 2e-3, 0, 0.3, "grammar-easy", size)
    assert 0.3 <= run["trained_seconds"] < 3
    assert run["tokens"] == run["steps"] * 4 * 26 and run["curve"][-1][1] == run["tokens"]


def test_the_plan_of_learning_brackets_each_seed_and_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """BERT's made-up loss falls with the logarithm of time: AdamW reaches ours after 7 minutes, Muon never."""
    asked = []

    def fake(model: str, learning_rate: float, seed: int, seconds: float, **_):
        """Return the loss of a run that nobody made."""
        asked.append((model, learning_rate, seed, seconds))
        speed = {"ours": 7, "BERT, AdamW": 1, "BERT, Muon": 0.1}[model]
        loss = 6 - math.log(speed * seconds) + abs(math.log(learning_rate / 4e-3))
        return {"held_out_loss": loss, "held_out_accuracy": 0.1, "tokens": 1000}

    def fill(self, work, keys, workers):
        """Run what is missing, here."""
        for key in [key for key in keys if self.done(**key) is None]:
            self.add({**key, **work(**key)})

    monkeypatch.setattr(learning, "train", fake)
    monkeypatch.setattr(learning, "dataset_of", lambda *_: None)
    monkeypatch.setattr(Measurements, "fill", fill)
    command = ["learning", "--out", str(tmp_path)]
    assert entry.main(command) == 0
    printed = capsys.readouterr().out
    assert (
        "BERT, AdamW needs more than 5, at most 10; more than 5, at most 10; more than 5, at most 10 times" in printed
    )
    assert "BERT, Muon needs more than 20; more than 20; more than 20 times our time" in printed
    budgets = {model: {s for m, _, _, s in asked if m == model} for model in learning.RATES}
    assert budgets == {"ours": {60}, "BERT, AdamW": {300, 600}, "BERT, Muon": {300, 600, 1200}}
    runs = len(asked)
    assert entry.main(command) == 0 and len(asked) == runs


# -- pages -------------------------------------------------------------------------------------------------------------


def made_up_contestant(name: str, tokens: int, places: int, seconds: list[float]) -> dict:
    """Return a contestant as a results file has it."""
    common = {"about": "", "variant": "", "trials": {}, "precision": "fp32", "parameters": 1000, "steps": 1}
    rates = {
        "flops": int(5e9),
        "optimizer_flops": 0,
        "formula_flops": None,
        "first_step_seconds": 0.5,
        "losses": [9, 8],
    }
    return {"name": name, "tokens": tokens, "places": places, "seconds": seconds, **common, **rates}


def made_up_run() -> dict:
    """Return a ragged measurement of two contestants."""
    contestants = [
        made_up_contestant("ours, packed", 1000, 1000, [1.0, 2.0]),
        made_up_contestant("BERT, padded", 500, 1000, [2.0, 4.0]),
    ]
    run = {"size": "M", "rows": "ragged", "threads": 1, "rounds": 2, "load": [0.1, 0.1, 0.1], "skipped": ["left out."]}
    shape = {"width": 8, "layers": 1, "vocabulary": 9, "rows": 2, "length": 4, "mask_rate": 0.15}
    return {**run, "shape": shape, "peak_gflops": {"fp32": 10.0}, "maker_tflops": 0.1, "contestants": contestants}


def test_a_table_shows_real_tokens_ratios_and_shares() -> None:
    """BERT: 500 real tokens in 2 s and 4 s, against 1,000 in 1 s and 2 s: 4 times; 5 GFLOP in 3 s of 30: 17%."""
    table = tables.throughput_table(made_up_run())
    line = next(line for line in table.splitlines() if line.startswith("| BERT, padded"))
    assert "188 (125 to 250)" in line and "4.00 (4.00 to 4.00)" in line and "17%" in line and "1.7%" in line
    assert "50% are real" in table and "left out." in table


def test_a_page_is_written_between_its_markers_only(tmp_path: Path) -> None:
    page = "before\n<!-- table: throughput -->\nold\n<!-- end -->\nafter\n"
    assert tables.NOT_MEASURED in tables.rendered(page, tmp_path) and "old" not in tables.rendered(page, tmp_path)
    results = Measurements("throughput", ABOUT, tmp_path)
    results.replace(made_up_run(), "size")
    written = tables.rendered(page, tmp_path)
    assert written.startswith("before\n") and written.endswith("<!-- end -->\nafter\n")
    assert "Some CPU 3000" in written and "188 (125 to 250)" in written and tables.NO_CARD in written
    assert tables.rendered(written, tmp_path) == written


def test_the_readme_is_what_the_results_say() -> None:
    """After new results: python -m benchmarks table."""
    page = tables.README.read_text(encoding="utf-8")
    assert tables.rendered(page) == page
    assert set(tables.SECTIONS) == {found[1] for found in tables.MARKED.findall(page)}


# -- commands ----------------------------------------------------------------------------------------------------------


def test_help_needs_no_torch() -> None:
    code = "import sys, benchmarks.__main__ as b; b.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tables.README.parent.parent, check=False).returncode == 0


@pytest.mark.parametrize("command", list(entry.COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        entry.main([command, "--help"])
    assert end.value.code == 0 and "--out" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words,expected",
    [
        (["throughput"], "BERT, padded"),
        (["throughput", "--profile"], "matrix products"),
        (["scaling", "--no-memory"], "layers 2"),
        (["ladder"], "all but last block"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_quick_runs_everything(
    words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main([*words, "--quick", "--out", str(tmp_path)]) == 0
    assert expected in capsys.readouterr().out
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    assert content["machine"]["versions"]["torch"] and content["runs"] and str(tmp_path) not in path.read_text()


def test_without_a_gpu_there_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert entry.main(["throughput", "--device", "cuda"]) == 0
    assert capsys.readouterr().out == (
        "not measured: this machine has no cuda device that PyTorch can use: choose --device auto or cpu.\n"
    )
