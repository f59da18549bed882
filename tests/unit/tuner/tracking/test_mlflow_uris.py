"""Tracking URIs: which are usable, what of them is shown, and the links made of them."""

from pathlib import Path

import pytest

from trainables.base.errors import InputError
from tuner.base.urls import redact
from tuner.tracking.mlflow_uris import check_uri, choose_uri, ui_address, ui_command, ui_links


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "sqlite:///mlflow.db",
            "sqlite:////tmp/x.db",
            "http://h:5000",
            "https://u:p@h/mlflow",
            "databricks",
        ),
        *(
            "postgresql://u:p@h/db",
            "postgresql+psycopg2://h/db",
            "mysql+pymysql://h/db",
            "databricks://profile",
        ),
    ],
)
def test_usable_uris(uri: str) -> None:
    check_uri(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "sqlite:///"),
        ("runs/mlruns", "write sqlite:///runs/mlruns/mlflow.db"),
        ("file:///data/mlruns", "write sqlite:////data/mlruns/mlflow.db"),
        ("sqlite://", "names no database file"),
        ("sqlite:///:memory:", "names no database file"),
        ("sqlite:////tmp", "names a folder"),
        ("http://", "names no host"),
        ("http://u:secret@h:port", "[Pp]ort"),
        ("redis://u:secret@h", "unknown scheme 'redis'"),
        ("postgresql://u:x@secret@h/db", "write the @ of its password as %40"),
        ("127.0.0.1:5000", "unknown scheme|sqlite:///"),
    ],
)
def test_unusable_uris(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_uri(uri)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql://me:p@ss@host/db and http://t@h", "at postgresql://***@host/db and http://***@h"),
        ("postgresql://me:pa/ss@host/db?x=1", "postgresql://***@host/db?x=1"),
        ("http://h/?token=abc&x=1 password=xyz", "http://h/?token=***&x=1 password=***"),
        ("sqlite:///mlflow.db?a=b@c", "sqlite:///mlflow.db?a=b@c"),
        (
            "http://127.0.0.1:5000/#/experiments/1 by me@home",
            "http://127.0.0.1:5000/#/experiments/1 by me@home",
        ),
        ('{"uri":"http://h:5000/x","mail":"a@b"}', '{"uri":"http://h:5000/x","mail":"a@b"}'),
    ],
)
def test_redact(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_the_option_comes_before_the_variable_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_uri("http://a", "http://b") == "http://a"
    assert choose_uri(None, "http://b") == "http://b"
    assert choose_uri(None, "") == f"sqlite:///{tmp_path}/mlflow.db"
    assert choose_uri("sqlite:///x/ml.db", "") == f"sqlite:///{tmp_path}/x/ml.db"


def test_a_servers_password_may_come_from_the_environment() -> None:
    for uri in ("http://me:secret@h:5000", "https://secret@h", "postgresql://me:secret@h/db"):
        assert choose_uri(None, uri) == uri
    with pytest.raises(InputError, match="unknown scheme"):
        choose_uri(None, "redis://h")


def test_ui_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_TRACKING_URI", "MLFLOW_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert ui_command("sqlite:///mlflow.db") == "mlflow ui"
    assert ui_command(f"sqlite:///{tmp_path}/mlflow.db") == "mlflow ui"
    explicit = f"mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///{tmp_path}/x/mlflow.db"
    assert ui_command("sqlite:///x/mlflow.db") == explicit
    assert "secret" not in ui_command("postgresql://me:secret@h/db")
    assert ui_command("http://h:5000") == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert "--backend-store-uri" in ui_command("sqlite:///mlflow.db")


RUNS = "experiments/7/runs?workflowType=machine_learning"


def test_links_where_the_store_has_no_views() -> None:
    links = ui_links(ui_address("sqlite:///mlflow.db"), "7", "p0", best=["a1", "b2"])
    base = "http://127.0.0.1:5000/#"
    ids = "runs=%5B%22a1%22%2C%22b2%22%5D&experiments=%5B%227%22%5D"
    assert links == {
        "runs": f"{base}/{RUNS}",
        "compare": f"{base}/compare-runs?workflowType=machine_learning&{ids}",
        "report": f"{base}/experiments/7/runs/p0/artifacts/report.html?workflowType=machine_learning",
    }
    assert "compare" not in ui_links("https://h", "7", "p0", best=["a1"])
    ordered = ui_links("", "7", "p0", objective="val/loss", largest_first=False)["runs"]
    assert ordered == (
        f"#/{RUNS}&searchFilter=tags.%60mlflow.parentRunId%60%20%3D%20%27p0%27"
        "&orderByKey=metrics.%60val%2Floss%60&orderByAsc=true"
    )


def test_links_that_open_views() -> None:
    links = ui_links("https://h/ml", "7", "p0", views={"search", "arms"}, best=["a", "b"], objective="x")
    search = f"https://h/ml/#/{RUNS}&viewStateShareKey=search-p0"
    assert links["runs"] == search  # anything more in the address and MLflow would ignore the view
    assert links["compare"] == f"{search}&compareRunsMode=CHART"
    assert links["arms"] == f"https://h/ml/#/{RUNS}&viewStateShareKey=arms-p0"
    assert "arms" not in ui_links("", "7", "p0", views={"search"})


def test_where_the_pages_are() -> None:
    assert ui_address("https://u:p@h:80/ml/") == "https://h:80/ml"
    assert ui_address("postgresql://u:p@h/db") == ui_address("sqlite:///x.db") == "http://127.0.0.1:5000"
