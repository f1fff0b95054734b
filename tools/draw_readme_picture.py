"""Draw the README's picture from the checkpoint that comes with the course: its curve, and blanks that it fills."""

import sys
from pathlib import Path

import matplotlib

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
matplotlib.use("Agg")

import matplotlib.pyplot as plt

from llm_lab import plots
from llm_lab.lessons import SHIPPED
from llm_lab.tasks.masked_language_model import fill
from llm_lab.tasks.pretrained import load_pretrained
from llm_lab.train.loop import read_metrics

PICTURE = ROOT / "notebooks" / "pictures" / "first_run.png"
SENTENCES = (
    "Returns the [MASK] of the array.",
    "If the file does not [MASK], an error is raised.",
    "The default [MASK] is zero.",
)


def main() -> int:
    """Draw and save."""
    plots.use_style()
    shipped = load_pretrained(SHIPPED)
    result = shipped.record["result"]
    figure, (left, *right) = plt.subplots(1, 4, figsize=(13, 3.4), width_ratios=(2.2, 1, 1, 1))
    baselines = {name: result[f"{name.replace(' ', '_')}_loss"] for name in ("uniform", "unigram", "both neighbours")}
    plots.learning_curve(
        read_metrics(SHIPPED / "curve.jsonl"), baselines, "5.4 million parameters, 64 minutes on a CPU", left
    )
    for axes, sentence in zip(right, SENTENCES, strict=True):
        best = fill(shipped.model, shipped.tokenizer, sentence, top=5)[0]
        title = sentence.replace("[MASK]", "____").replace(", ", ",\n")
        plots.guesses([g.word for g in best], [g.probability for g in best], title, axes)
        axes.set_title(title, fontsize=10)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=80, bbox_inches="tight")
    print(PICTURE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
