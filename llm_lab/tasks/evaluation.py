"""Is it any good? Every measure of a masked language model on one corpus: what `python -m llm_lab evaluate` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from llm_lab import metrics
from llm_lab.tasks import minimal_pairs
from llm_lab.tasks.held_out import SHOWN, Answers, answers, documents_of, exam_result, held_out_batches, shown_at
from llm_lab.tasks.known_language import compare
from llm_lab.tasks.masked_language_model import pseudo_perplexity
from llm_lab.tasks.pretrained import Pretrained
from llm_lab.text.baselines import ladder
from llm_lab.text.contamination import contamination
from llm_lab.text.dataset import Dataset
from llm_lab.text.sentences import SentenceDataset

PROBES = 100  # minimal pairs of each kind of a known language
Measures = dict[str, Any]


def evaluate(pretrained: Pretrained, dataset: Dataset | SentenceDataset, documents: int = 40) -> Measures:
    """All measures of a model on the held-out part of a corpus, which must be tokenized with the model's tokenizer.

    Losses are nats a target, on fixed masks of 15% of the positions. An interval is [low, high], 95%, over documents
    (or sentences). The first `documents` are read for the pseudo-perplexity. Raises ValueError for another vocabulary.
    """
    if pretrained.tokenizer.sha != dataset.tokenizer.sha:
        raise ValueError("the model was trained with another vocabulary than this corpus has: evaluate it on its own.")
    batches = held_out_batches(dataset)
    found, document = answers(pretrained.model, batches), documents_of(dataset, batches)
    measured: Measures = exam_result(found, document)
    for baseline in ladder(dataset, batches):
        name = baseline.name.replace(" ", "_")
        measured |= {f"{name}_loss": baseline.loss, f"{name}_accuracy": baseline.accuracy}
    measured["bits_per_byte"] = metrics.bits_per_byte(measured["held_out_loss"], dataset.tokens_per_byte)
    texts = dataset.held_out_texts[:documents]
    measured["pseudo_perplexity"] = pseudo_perplexity(pretrained.model, pretrained.tokenizer, texts)
    measured |= calibration(found)
    measured["loss_by_what_is_shown"] = loss_by_what_is_shown(pretrained, dataset)
    measured["same_text"] = pretrained.record.get("corpus", {}).get("sha") == dataset.about["sha"]
    known = isinstance(dataset, SentenceDataset)
    return measured | (_known_language(pretrained, dataset) if known else _real_text(pretrained, dataset))  # type: ignore[arg-type]


def calibration(found: Answers) -> Measures:
    """The calibration error with the bins that it is made of, and the nats above what the model itself expects."""
    bins = metrics.reliability(found.confidence, found.right)
    shown = [{"confidence": b.confidence, "accuracy": b.accuracy, "targets": b.targets} for b in bins]
    surplus = float((found.nats - found.expected).mean())
    return {"calibration_error": metrics.calibration_error(bins), "overconfidence": surplus, "calibration": shown}


def loss_by_what_is_shown(pretrained: Pretrained, dataset: Dataset | SentenceDataset) -> dict[str, dict[str, float]]:
    """Loss and accuracy under BERT's 80/10/10, by what stands at the target: [MASK], a random word, the word itself."""
    masking = replace(dataset.evaluation_masking, scheme="80/10/10")
    batches = held_out_batches(dataset, masking=masking)
    found, shown = answers(pretrained.model, batches), shown_at(batches, pretrained.tokenizer.mask_id)
    split = {}
    for number, name in enumerate(SHOWN):
        mine = shown == number
        if mine.any():
            right = float(found.right[mine].double().mean())
            split[name] = {"loss": float(found.nats[mine].mean()), "accuracy": right, "targets": int(mine.sum())}
    return split


def _known_language(pretrained: Pretrained, dataset: SentenceDataset) -> Measures:
    compared = compare(pretrained.model, dataset)
    measured: Measures = {"floor": compared.floor.mean, "floor_standard_error": compared.floor.standard_error}
    measured |= {"excess": compared.excess.mean, "excess_standard_error": compared.excess.standard_error}
    measured["excess_by_kind"] = {kind: estimate.mean for kind, estimate in compared.excess_by_kind.items()}
    pairs = {}
    for kind, probes in minimal_pairs.probes_by_kind(dataset.language, PROBES).items():
        best = minimal_pairs.oracle_scores(dataset.language, probes)
        scores = minimal_pairs.model_scores(pretrained.model, dataset.language, probes)
        pairs[kind] = _preference(scores) | {"oracle": minimal_pairs.preferred(best) / len(best)}
    return measured | ({"minimal_pairs": pairs} if pairs else {})


def _real_text(pretrained: Pretrained, dataset: Dataset) -> Measures:
    training = (document.text for document in dataset.corpus.split("train"))
    leaked = contamination(dataset.held_out_texts, training)
    measured: Measures = {"leaked_8_grams": leaked.grams, "leaked_documents": leaked.documents}
    pairs = minimal_pairs.spelled(minimal_pairs.read_pairs(), pretrained.tokenizer)
    return measured | ({"minimal_pairs": english_preferences(pretrained, pairs)} if pairs else {})


def english_preferences(pretrained: Pretrained, pairs: Sequence[minimal_pairs.Pair]) -> dict[str, Measures]:
    """The share of pairs whose right sentence the model prefers, by phenomenon and for all: at the hidden place, for
    pairs that differ in one token, and by sentence.
    """
    at_place = minimal_pairs.scores_at_place(pretrained.model, pretrained.tokenizer, pairs)
    by_sentence = minimal_pairs.scores_by_sentence(pretrained.model, pretrained.tokenizer, pairs)
    found = {}
    for kind in (*dict.fromkeys(pair.phenomenon for pair in pairs), "all"):
        mine = torch.tensor([kind in (pair.phenomenon, "all") for pair in pairs])
        found[kind] = _preference(at_place[mine & ~at_place.isnan()])
        found[kind]["by_sentence"] = minimal_pairs.preferred(by_sentence[mine]) / int(mine.sum())
    return found


def _preference(scores: Tensor) -> Measures:
    if not len(scores):
        return {"pairs": 0}
    share, low, high = metrics.proportion(minimal_pairs.preferred(scores), len(scores))
    return {"pairs": len(scores), "at_place": share, "interval": [low, high]}


# -- for readers ------------------------------------------------------------------------------------------------------

NOTES = {
    "held_out_loss": "nats a hidden word; 15% hidden, the same for everybody",
    "bits_per_byte": "the loss by length of text: vocabularies compare by this",
    "pseudo_perplexity": "each word hidden alone; a causal model's perplexity is something else",
    "calibration_error": "sureness against success; chance alone makes it larger than 0",
    "overconfidence": "nats paid above what the model itself expects",
    "leaked_8_grams": "share of the held-out runs of 8 words that stand in the training text",
    "leaked_documents": "share of the held-out documents of which half does",
    "floor": "the best possible guesser's loss on these sentences",
    "excess": "nats above the floor",
}
HIDDEN = ("calibration", "same_text")  # for scripts
WHOLE = ("targets", "documents")


def table(measured: Measures) -> list[str]:
    """The measures as lines: a name, a number, its interval, and what it is."""
    lines, groups = [], []
    for name, value in measured.items():
        if isinstance(value, dict):
            groups += ["", *_group(name.replace("_", " "), value)]
        elif not name.endswith("_interval") and name not in HIDDEN:
            number = f"{value:,}" if name in WHOLE else f"{value:.4f}"
            notes = [_between(measured.get(f"{name}_interval")), NOTES.get(name, "")]
            lines.append(_line(name.replace("_", " "), number, "; ".join(filter(None, notes))))
    lines += groups
    if not measured["same_text"]:
        lines += ["", "The model was trained on another text, or another version of it, which may hold parts of this."]
    return lines


def _line(name: str, number: str, note: str) -> str:
    return f"{name:<30} {number:>10}  {note}".rstrip()


def _between(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _group(title: str, values: dict[str, Any]) -> list[str]:
    """A heading with one line for each of its parts."""
    if title == "excess by kind":
        return [title, *(_line(f"  {name}", f"{value:.4f}", "") for name, value in values.items())]
    if title == "minimal pairs":
        return [f"{title}: share of pairs whose right sentence is preferred", *map(_pair_line, values.items())]
    lines = [f"{title} (80/10/10)"]
    for name, v in values.items():
        lines.append(_line(f"  {name}", f"{v['loss']:.4f}", f"{v['accuracy']:.1%} right of {v['targets']:,}"))
    return lines


def _pair_line(item: tuple[str, Measures]) -> str:
    kind, v = item
    number = f"{v['at_place']:.4f}" if v["pairs"] else "-"
    notes = [_between(v.get("interval")) + f", {v['pairs']} pairs" if v["pairs"] else ""]
    notes += [f"{name.replace('_', ' ')} {v[name]:.3f}" for name in ("oracle", "by_sentence") if name in v]
    return _line(f"  {kind}", number, "; ".join(filter(None, notes)))
