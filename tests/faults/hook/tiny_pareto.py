"""The study `tiny` with two objectives: a Pareto front in place of one winner."""

from dataclasses import replace

from search_spaces.tiny import STUDY as TINY

from search_spaces.study import Objective

STUDY = replace(
    TINY, name="tiny_pareto", objectives=(Objective("val/auroc/all"), Objective("val/accuracy/clean"))
)
