"""The report: complete, escaped, self-contained, and there even where little is known."""

import base64
import csv
import io
import math
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from search_spaces.study import Objective
from tests.unit.study_results import CLAIM, CLEAN, OBJECTIVE, arm, plan, realistic, record, result
from tuner.base.records import State
from tuner.report import plots_search, plots_winner
from tuner.report.blocks import Links, Table, Text, to_html, to_markdown
from tuner.report.build import report_blocks, trials, write_report
from tuner.report.csv_tables import arms_csv, trials_csv

EVIL = '<script>alert(1)</script> | `x` & "q"\nsecond $line$'


class Page(HTMLParser):
    """Collects tags, addresses and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            (tag, key, value) for key, value in attrs if key in ("src", "href", "srcset", "style")
        ]
        assert not any(key.startswith("on") for key, _ in attrs)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    made = realistic(20)
    folder = tmp_path_factory.mktemp("report") / "run"
    return made, folder, write_report(made, folder)


def test_files(written):
    _, folder, paths = written
    texts = ["report.html", "report.md", "trials.csv", "arms.csv"]
    assert [p.name for p in paths] == [*texts, "outlier-scores.png", "roc.png"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in paths)  # no temporary left


def test_html_loads_nothing(written):
    made, folder, _ = written
    text = (folder / "report.html").read_text("utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "@import" not in text
    assert "url(" not in text
    links = set(made.links.values())
    for tag, key, value in page.addresses:
        assert (tag == "img" and key == "src" and value.startswith("data:image/png;base64,")) or (
            tag == "a" and key == "href" and value in links
        )
    assert links == {value for tag, _, value in page.addresses if tag == "a"}
    pictures = [value for tag, _, value in page.addresses if tag == "img"]
    assert (
        len(pictures) == 10
    )  # arms, curves, rungs, two effects, importances, trade-off, scores, ROC, attack
    assert all(base64.b64decode(p.partition(",")[2]).startswith(b"\x89PNG") for p in pictures)


def test_answer_comes_first(written):
    _, folder, _ = written
    text = (folder / "report.md").read_text("utf-8")
    parts = [
        "Claim supported on digits-open",
        "Winner: trial",
        "Test metrics",
        "## Trials",
        "## Learning curves",
    ]
    assert sorted(parts, key=text.index) == parts
    assert "python launch.py --study aoe_sigma" in text
    for heading in ("Early stopping", "Effect of outliers.sigma", "Failures", "Cost", "How to run it again"):
        assert f"## {heading}" in text


def test_no_pyplot():
    code = "import sys, tuner.report.build; assert not {'matplotlib.pyplot', 'torch', 'optuna'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_value_is_escaped(tmp_path):
    evil = record(1, (0.5,), State.FAIL, reason=EVIL)
    best = record(0, (0.8,), params={"outliers.sigma": 1.0, EVIL: EVIL})
    made = result(
        plan=plan(question=EVIL, claim=EVIL, command=EVIL, source=EVIL),
        records=(best, evil),
        best=best,
        feasible=frozenset({best.key}),
        arms=(
            arm("best", (0.9, 0.91)),
            arm("oe", (0.8, 0.81), about=EVIL),
            arm(EVIL, (0.8, 0.7), about=EVIL),
        ),
        scores={"id": np.arange(5.0), EVIL: np.arange(5.0)},
        importances={EVIL: 1.0},
        timings={EVIL: 1.0},
        environment={EVIL: EVIL},
        links={EVIL: EVIL, "bad": "javascript:alert(1)", "good": 'http://x/?a="<b>'},
        ui_command=EVIL,
        problems=(EVIL,),
        classes=(EVIL,),
    )
    write_report(made, tmp_path)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "script" not in page.tags
    assert [value for tag, _, value in page.addresses if tag == "a"] == ["http://x/?a=%22%3Cb%3E"]
    assert "<script" in "".join(page.text)  # shown as text
    outside_code = [
        x for x in (tmp_path / "report.md").read_text("utf-8").split("\n") if not x.startswith("    ")
    ]
    assert "<script" not in "\n".join(outside_code)


def test_no_link_and_no_escape_comes_out_of_a_text():
    words = "[x](javascript:alert(1)) \\[y](data:,) ![z](http://a) \x1b[2J\u202e"
    blocks = [
        Text(words),
        Links([(words, "https://h/a>) [b](javascript:c)\n\x1b")]),
        Table(("a",), [(words,)]),
    ]
    shown = r"\[x\](javascript:alert(1)) \\\[y\](data:,) !\[z\](http://a) \x1b\[2J\u202e"
    address = "https://h/a%3E)%20[b](javascript:c)%0A%1B"
    assert to_markdown("t", blocks).splitlines()[2::2] == [
        shown,
        f"- [{shown}](<{address}>)",
        "| a |",
        f"| {shown} |",
    ]
    page = to_html("t", blocks)
    assert not {"\x1b", "\u202e"} & set(page)
    assert [value for tag, _, value in Page(page).addresses] == [address]


def test_a_cell_of_the_csv_is_no_formula():
    evil = ("=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1")
    records = [
        record(n, params={"outliers.sigma": -1.5, "name": text}, reason=text) for n, text in enumerate(evil)
    ]
    text = trials_csv(result(plan=plan(), records=tuple(records)))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in rows] == [
        *("'=HYPERLINK(1)", "'+1+1", "'-2+3", "'@SUM(A1)", r"'\t=1", r"'\r=1")
    ]
    assert {row["outliers.sigma"] for row in rows} == {"-1.5"}


def test_markdown_golden():
    blocks = [
        Text("Claim not judged.", "open"),
        Table(("trial", "value"), [("a|b", "1"), ("c", "2")], frozenset({1})),
        Links([("runs", "http://x/#/r"), ("odd", "file:///etc")]),
    ]
    assert to_markdown("A & B", blocks) == (
        "# A &amp; B\n\n> Claim not judged.\n\n"
        "| trial | value |\n| --- | ---: |\n| a\\|b | 1 |\n| **c** | **2** |\n\n"
        "- [runs](<http://x/#/r>)\n- odd: file:///etc\n"
    )


def test_markdown_of_a_tiny_study_golden():
    best = record(0, (0.8, 0.9))
    made = result(
        plan=plan(question="Q?", claim="C", effects=(), command="run me", floors=(), headline=(CLAIM,)),
        records=(best,),
        best=best,
        feasible=frozenset({"0000"}),
        tests={"0000": {CLAIM: 0.75}},
    )
    blocks = report_blocks(made)
    text = to_markdown("t", [b for b in blocks if not hasattr(b, "png")])
    assert text.startswith(
        "# t\n\nClaim: C.\n\n"
        "> Claim not judged on digits-open. The confirm stage was not run, so there is no interval and "
        "no comparison: the winner is the best of many, with one seed each. Its single run shows 75.0 % in "
        "robust AUROC (ε 0.1), near OOD. Run it with --resume --stages confirm,report.\n\n"
        "Winner: trial 0 of 1 (validation robust AUROC (ε 0.1), all OOD sets 90.0 %).\n\n"
        "| searched parameter | value |\n| --- | ---: |\n| `outliers.sigma` | 1 |\n| `lr` | 0.001 |\n\n"
        "Test metrics of single runs: one seed each, no interval, so no comparison can be drawn.\n\n"
        "| trial | robust AUROC (ε 0.1), near OOD |\n| --- | ---: |\n| winner, trial 0 | 75.0 % |\n\n"
        "## Trials\n\n1 of 20 trials: 1 complete.\n"
    )
    assert "| search | 1 | 2 | 9 | 78 % | 3.0 s |" in text


@pytest.mark.parametrize(
    "made",
    [
        result(),
        result(records=(record(0, (), State.RUNNING),)),
        result(records=(record(0, (), State.FAIL, reason="out of memory"),)),
        result(records=(record(0, (0.5,), State.PRUNED), record(1, (0.6,), State.PRUNED))),
        result(records=(record(0, (math.nan,), State.FAIL, reason="nan"),)),
        result(records=(record(),), best=record(), feasible=frozenset({"0000"}), pareto=("0000",)),
        result(records=(record(),), best=record(), arms=(arm("best", (0.9,)), arm("oe", (math.nan,)))),
        result(scores={"id": [0.0] * 5, "x": [0.0] * 5}, attack_examples={"before": np.zeros((0, 8, 8, 1))}),
        result(
            scores={"x": [1.0]},
            attack_examples={"before": np.zeros((1, 8, 8, 3)), "after": np.zeros((1, 8, 8, 3))},
        ),
        result(
            plan=plan(objectives=(Objective(OBJECTIVE), Objective(CLEAN))),
            records=(record(),),
            pareto=("0000",),
        ),
        result(
            plan=plan(objectives=(Objective("val/calibration/ece", "minimize"),), headline=()),
            records=(record(),),
        ),
    ],
)
def test_what_is_missing_is_left_out(made, tmp_path):
    write_report(made, tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Claim not judged" in text
    header = (tmp_path / "trials.csv").read_text().splitlines()[0]
    assert header.startswith("number,state,epochs,reason,feasible,")


def test_the_table_of_all_trials_is_left_out_where_the_first_has_them_all():
    tables = [b for b in trials(result(records=(record(0), record(1)))) if isinstance(b, Table)]
    assert [(len(table.rows), table.folded) for table in tables] == [(2, "")]
    failed = record(2, (), State.FAIL)
    tables = [b for b in trials(result(records=(record(0), record(1), failed))) if isinstance(b, Table)]
    assert [(len(table.rows), table.folded) for table in tables] == [(2, ""), (3, "All trials")]
    assert "\n\nAll trials:\n\n| trial" in to_markdown("t", tables)


def test_trials_csv():
    first = record(0, (0.8, 0.9), params={"outliers.sigma": 1.5, "lr": 0.01})
    made = result(
        records=(
            record(2, (0.5,), State.FAIL, reason='a,\n"b"'),
            first,
            record(0, (0.4,), lane="oe"),
            record(1, (0.6,), State.PRUNED, reason="stopped at epoch 1"),
        ),
        feasible=frozenset({"0000"}),
        tests={"0000": {"test/b": 0.25, "test/a": 0.5}, "oe-0000": {"test/c": 1.0}},
    )
    rows = list(csv.DictReader(io.StringIO(trials_csv(made))))
    params = ["outliers.sigma", "outliers.weight", "attack.name", "attack.epsilon", "attack.steps", "lr"]
    first_columns = ["number", "state", "epochs", "reason", "feasible"]
    assert list(rows[0]) == [*first_columns, *params, CLEAN, OBJECTIVE, "test/a", "test/b"]
    assert [r["number"] for r in rows] == ["0", "1", "2"]
    assert [r["state"] for r in rows] == ["COMPLETE", "PRUNED", "FAIL"]
    assert [r["feasible"] for r in rows] == ["true", "", ""]
    assert rows[0]["epochs"] == "2"
    assert rows[0][OBJECTIVE] == "0.9"
    assert rows[0]["outliers.sigma"] == "1.5"
    assert rows[0]["attack.name"] == ""
    assert rows[0]["test/a"] == "0.5"
    assert rows[2]["reason"] == 'a, "b"'


def test_arms_csv():
    confirm = record(0, (0.9,), lane="confirm", arm="best", seed_index=1)
    made = result(
        records=(record(0), record(3, (0.4,), lane="oe"), confirm),
        tests={"oe-0003": {CLAIM: 0.3}},
        arms=(arm("best", (0.7, 0.8)), arm("oe", (0.5, 0.6))),
    )
    rows = list(csv.DictReader(io.StringIO(arms_csv(made))))
    assert [(r["lane"], r["number"], r["arm"], r["seed_index"], r[CLAIM]) for r in rows] == [
        ("oe", "3", "oe", "", "0.3"),
        ("confirm", "0", "best", "1", "0.8"),
        ("confirm", "", "oe", "0", "0.5"),
        ("confirm", "", "oe", "1", "0.6"),
    ]


def test_auroc_golden():
    assert plots_winner.auroc(np.array([0.0, 1, 2]), np.array([1.0, 3])) == 0.75
    assert plots_winner.auroc(np.array([1.0, 1]), np.array([1.0])) == 0.5


def test_effect_takes_the_claims_family_by_set():
    names = (
        "test/robust_auroc_0.05/x",
        "test/robust_auroc_0.1/x",
        "test/robust_auroc_0.1/near",
        "test/auroc/x",
    )
    made = result(tests={"0000": dict.fromkeys(names, 0.5)})
    assert plots_search.effect_metrics(made) == ["test/robust_auroc_0.1/x"]
    assert plots_search.effect_metrics(result(tests={"0": {"test/auroc/x": 0.5}})) == ["test/auroc/x"]
    robust = {"test/accuracy/robust_0.2": 0.5, "test/accuracy/clean": 1.0}
    assert plots_search.effect_metrics(result(tests={"0": robust})) == ["test/accuracy/robust_0.2"]
    assert plots_search.effect_metrics(result()) == []


@pytest.mark.slow
def test_a_thousand_trials_in_seconds(tmp_path):
    made = realistic(1000)
    began = time.process_time()
    write_report(made, tmp_path)
    assert time.process_time() - began < 10
    assert (tmp_path / "report.html").stat().st_size < 4e6
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 1001


def test_the_classes_are_named(tmp_path):
    write_report(replace(result(), classes=("cat", "dog")), tmp_path)
    assert "cat, dog" in (tmp_path / "report.html").read_text("utf-8")
    write_report(replace(result(), classes=tuple(map(str, range(100)))), tmp_path)
    assert "| classes | 0, 1, 2," in (tmp_path / "report.md").read_text("utf-8")
    assert "18, 19, ... (100 in all)" in (tmp_path / "report.md").read_text("utf-8")


def test_links_need_a_web_address():
    page = Page(to_html("t", [Links([("x", "javascript:alert(1)"), ("y", "https://z/")])]))
    assert [value for _, _, value in page.addresses] == ["https://z/"]


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    write_report(result(), tmp_path)
    before = (tmp_path / "report.md").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(replace(result(), problems=("new",)), tmp_path)
    assert (tmp_path / "report.md").read_bytes() == before
