"""What reaches the terminal holds no character that steers it."""

import pytest

from tuner.base.text import one_line, show, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("AUROC 0.9 ± 0.1, ε − …\nsecond line", "AUROC 0.9 ± 0.1, ε − …\nsecond line"),
        ("a\x1b[2J\x1b]0;title\x07b", r"a\x1b[2J\x1b]0;title\x07b"),
        ("a\rb\tc\x00\x7f\x9b1m", r"a\rb\tc\x00\x7f\x9b1m"),
        ("abc\u202egnp.exe\u2066\u200b\ufeff", r"abc\u202egnp.exe\u2066\u200b\ufeff"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(text).encode("utf-8").decode() == shown


def test_messages_and_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_line("bad\x1b[31m\nname") == r"bad\x1b[31m name"
    show("run \x1b[1A\nnext")
    assert capsys.readouterr().out == "run \\x1b[1A\nnext\n"
