"""The model card's tables."""

from __future__ import annotations

from model.card import comparison_table

FIGURES = {"auc": 0.99291, "average_precision": 0.97, "f1": 0.9, "ece": 0.011, "brier": 0.02, "log_loss": 0.0788}


def test_comparison_has_one_line_per_model_and_a_dash_for_what_is_not_defined() -> None:
    assert comparison_table({"model": FIGURES, "majority": {**FIGURES, "auc": None, "f1": 0.0}}) == [
        "| model              |    AUC | average precision |     F1 |    ECE |  Brier | log-loss |",
        "|--------------------|-------:|------------------:|-------:|-------:|-------:|---------:|",
        "| fine-tuned network | 0.9929 |            0.9700 | 0.9000 | 0.0110 | 0.0200 |   0.0788 |",
        "| majority class     |      – |            0.9700 | 0.0000 | 0.0110 | 0.0200 |   0.0788 |",
    ]
