"""The report: complete, escaped, self-contained, and there even where little is known."""

import base64
import csv
import hashlib
import html
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from search_spaces.study import Objective
from tests.unit.study_results import CLAIM, CLEAN, OBJECTIVE, arm, plan, realistic, record, result
from tuner.base.records import State
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve
from tuner.report import data
from tuner.report.blocks import Figure, Links, Table, Text
from tuner.report.build import report_blocks, write_report
from tuner.report.csv_tables import arms_csv, trials_csv
from tuner.report.data import report_data
from tuner.report.markdown import to_markdown
from tuner.report.page import to_page
from tuner.report.search import trials

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
    assert [p.name for p in paths] == ["report.html", "report.md", "report.json", "trials.csv", "arms.csv"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in paths)  # no temporary left


def test_the_page_loads_nothing_and_its_policy_allows_its_own_script_alone(written):
    made, folder, _ = written
    text = (folder / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.tags.count("script") == 2  # data and script
    assert not {"link", "iframe", "object", "base", "form"} & set(page.tags)
    assert "@import" not in text
    assert "url(" not in text
    links = set(made.links.values())
    for tag, key, value in page.addresses:
        inside = tag == "a" and key == "href" and (value in links or value.startswith("#"))
        assert inside or key == "style" or (tag == "img" and value.startswith("data:image/png;base64,"))
    assert links <= {value for tag, _, value in page.addresses if tag == "a"}
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = html.unescape(text.partition('Policy" content="')[2].partition('"')[0])
    assert policy == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'"
    )


def test_every_anchor_leads_somewhere_and_no_id_is_used_twice(written):
    text = (written[1] / "report.html").read_text("utf-8")
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    anchors = {value[1:] for _, key, value in Page(text).addresses if key == "href" and value[0] == "#"}
    assert anchors <= set(ids)
    assert {"answer", "cautions", "explore", "trials", "reproduce"} <= anchors


def test_the_order_is_the_same_on_the_page_and_in_markdown(written):
    _, folder, _ = written
    sections = [
        *("Answer", "Cautions", "Controls", "All headline metrics", "Ranges searched", "Explore the trials"),
        *(
            "Trials",
            "Validation against test",
            "Set by set",
            "Search efficiency",
            "Scores",
            "Cost",
            "Reproduce",
        ),
    ]
    lines = (folder / "report.md").read_text("utf-8").splitlines()
    assert [line[3:] for line in lines if line.startswith("## ")] == sections
    page = (folder / "report.html").read_text("utf-8")
    assert re.findall(r"<h2 [^>]*>([^<]*)</h2>", page) == sections


def test_answer_comes_first(written):
    _, folder, _ = written
    text = (folder / "report.md").read_text("utf-8")
    parts = ["Winner: Trial", "Claim supported on digits-open", "--set outliers.sigma=", "## Trials"]
    assert sorted(parts, key=text.index) == parts
    assert "python launch.py --study aoe_sigma" in text
    assert "### Failures" in text
    page = (folder / "report.html").read_text("utf-8")
    first = page[page.index("<main") : page.index('id="cautions"')]
    for words in (
        "Best configuration of the search<",
        "outliers.sigma",
        "Claim supported",
        'class="forest"',
        "2 cautions: values at the end of their range",
    ):
        assert words in first, words


def test_without_scripts_every_trial_is_in_the_table_and_in_the_plots(written):
    made, folder, _ = written
    page = (folder / "report.html").read_text("utf-8")
    table = page[page.index('id="all-trials"') :].partition("</table>")[0]
    searched = [r for r in made.records if r.lane == "search"]
    assert sorted(map(int, re.findall(r' data-i="(\d+)"', table))) == list(range(len(searched)))
    for kind in ("scatter", "curves", "parallel"):
        plot = page[page.index(f'class="plot {kind}"') :].partition("</svg>")[0]
        assert re.search(r'<path d="M\d+ \d+', plot), kind


def test_every_picture_says_what_it_shows(written):
    page = (written[1] / "report.html").read_text("utf-8")
    pictures = re.findall(r'<svg[^>]*role="img"[^>]*>', page)
    assert len(pictures) > 20
    assert all(re.search(r'aria-label="[^"]{10,}"', picture) for picture in pictures)
    best = written[0].best
    said = f"Winner, trial {best.number}: outliers.sigma {best.params['outliers.sigma']:.4g}"
    assert sum(said in picture for picture in pictures) > 5  # parallel, slices, contour, effects
    assert all('alt="' in image for image in re.findall("<img[^>]*>", page))


def test_the_json_of_the_page_is_the_artifact(written):
    _, folder, _ = written
    page = (folder / "report.html").read_text("utf-8")
    inside = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(inside) == json.loads((folder / "report.json").read_text())


def test_no_heavy_library():
    heavy = {"matplotlib", "torch", "optuna", "pandas", "PIL"}
    code = f"import sys, tuner.report.build; assert not {heavy} & set(sys.modules)"
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
    assert page.tags.count("script") == 2
    links = [value for tag, _, value in page.addresses if tag == "a" and not value.startswith("#")]
    assert links == ["http://x/?a=%22%3Cb%3E"]
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
    page = to_page("t", "", blocks)
    assert not {"\x1b", "\u202e"} & set(page)
    assert [value for tag, key, value in Page(page).addresses if key == "href"] == ["#main", address]


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
        plan=plan(question="Q?", claim="C", effects=(), command="", floors=(), headline=(CLAIM,)),
        records=(best,),
        best=best,
        feasible=frozenset({"0000"}),
        tests={"0000": {CLAIM: 0.75}},
    )
    text = to_markdown("t", report_blocks(made, report_data(made)))
    assert text.startswith(
        "# t\n\n## Answer\n\n"
        "Winner: Trial 0, chosen among 1 trial by validation robust AUROC (ε 0.1), near OOD: 90.0 %.\n\n"
        "| searched parameter | value |\n| --- | ---: |\n| `outliers.sigma` | 1 |\n| `lr` | 0.001 |\n\n"
        "> Claim not judged on digits-open: C.\n\n"
        "The confirm stage was not run, so there is no interval and "
        "no comparison: the winner is the best of many, with one seed each. Its single run shows 75.0 % in "
        "robust AUROC (ε 0.1), near OOD on test data. Run it with --resume aoe_sigma-test --stages confirm,report.\n\n"
        "Train this configuration again:\n\n"
        "    python launch.py --train --study aoe_sigma --set outliers.sigma=1.0 --set lr=0.001\n\n"
        "Test metrics of single runs: one seed each, no interval, so no comparison can be drawn.\n\n"
        "| trial | robust AUROC (ε 0.1), near OOD |\n| --- | ---: |\n| winner, trial 0 | 75.0 % |\n\n"
        "## Cautions\n\n> 1 of 20 planned trials have ended.\n\n"
        "> The winner is the best of 1 trial that trained to the end.\n\n"
    )
    assert "## Trials\n\n1 of 20 trials: 1 complete.\n" in text
    assert "| search | 1 | 2 | 9 | 78 % | 3.0 s |" in text


def test_one_training_is_no_search():
    options = LaunchOptions("aoe_sigma", train=True, settings=("outliers.sigma=1", "lr=0.003"))
    values = ("outliers.weight=0.5", "attack.name=pgd", "attack.epsilon=0.1", "attack.steps=3")
    alone = resolve(
        replace(options, settings=(*options.settings, *values)), "alone", "python launch.py --train"
    )
    best = record(0, (0.8, 0.9), params={})
    made = result(
        plan=alone, records=(best,), best=best, feasible=frozenset({best.key}), tests={best.key: {CLAIM: 0.9}}
    )
    text = to_markdown("t", report_blocks(made, report_data(made)))
    assert "| `outliers.sigma` | 1 |" in text
    assert "One training with one seed, so there is no interval." in text
    assert "| aoe | 90.0 % |" in text
    for word in (
        "Winner",
        "Claim",
        "planned trial",
        "## Trials",
        "## Search efficiency",
        "Train this configuration",
    ):
        assert word not in text, word


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
    assert "NaN" not in (tmp_path / "report.json").read_text()
    header = (tmp_path / "trials.csv").read_text().splitlines()[0]
    assert header.startswith("number,state,epochs,judged_epoch,reason,feasible,")


def test_markdown_has_the_best_trials_and_the_page_has_all_of_them_best_first():
    records = [record(n, (0.5 + n / 100,)) for n in range(12)] + [record(12, (0.99,), State.PRUNED)]
    made = result(records=tuple(records), feasible=frozenset(r.key for r in records if r.number != 11))
    figure = next(b for b in trials(made, report_data(made)) if isinstance(b, Figure))
    assert isinstance(figure.words, Table)
    assert [row[0] for row in figure.words.rows] == ["10", "9", "8", "7", "6", "5", "4", "3", "2", "1"]
    assert figure.words.title == "The best complete trials"
    listed = re.findall(r'data-i="(\d+)"', figure.markup)
    assert listed == [*map(str, range(10, -1, -1)), "11", "12"]


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
    first_columns = ["number", "state", "epochs", "judged_epoch", "reason", "feasible"]
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


def test_of_very_many_trials_the_winner_is_shown(monkeypatch):
    monkeypatch.setattr(data, "MOST_TRIALS", 3)
    records = tuple(record(n, (0.5 + n / 100,)) for n in range(6))
    made = result(records=records, best=records[5], feasible=frozenset({"0005"}))
    shown = report_data(made)
    assert (list(shown.trials.number), shown.winner) == ([0, 1, 5], 2)
    figure = next(b for b in trials(made, shown) if isinstance(b, Figure))
    assert "3 of the trials" in figure.markup
    assert list(report_data(replace(made, best=None)).trials.number) == [0, 1, 2]


@pytest.mark.slow
def test_two_thousand_trials_are_under_three_megabytes(tmp_path):
    write_report(realistic(2000), tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 3e6
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 2001


def test_a_usual_study_is_under_half_a_megabyte(written):
    assert (written[1] / "report.html").stat().st_size < 5e5


def test_the_classes_are_named(tmp_path):
    write_report(replace(result(), classes=("cat", "dog")), tmp_path)
    assert "cat, dog" in (tmp_path / "report.html").read_text("utf-8")
    write_report(replace(result(), classes=tuple(map(str, range(100)))), tmp_path)
    assert "| classes | 0, 1, 2," in (tmp_path / "report.md").read_text("utf-8")
    assert "18, 19, ... (100 in all)" in (tmp_path / "report.md").read_text("utf-8")


def test_links_need_a_web_address():
    page = Page(to_page("t", "", [Links([("x", "javascript:alert(1)"), ("y", "https://z/")])]))
    assert [value for _, key, value in page.addresses if key == "href"] == ["#main", "https://z/"]


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    write_report(result(), tmp_path)
    before = (tmp_path / "report.md").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(replace(result(), problems=("new",)), tmp_path)
    assert (tmp_path / "report.md").read_bytes() == before


def test_the_command_that_trains_the_winner_is_that_of_the_first_launch():
    """A resume's command names neither study nor data set."""
    best = record(0, (0.8, 0.9))
    made = result(records=(best,), best=best, feasible=frozenset({"0000"}))
    first = "python launch.py --study aoe_sigma --dataset digits-open --max-epochs 4"
    commands = f"{first}\npython launch.py --resume run --stages report"
    resumed = replace(made, environment={**made.environment, "command": commands})
    text = to_markdown("t", report_blocks(resumed, report_data(resumed)))
    again = text.partition("Train this configuration again:")[2]
    assert "--train --study aoe_sigma --dataset digits-open --max-epochs 4 --set " in again
