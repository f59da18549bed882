"""Whatever the user's own code raises comes out as one line; what must not be caught is not."""

import pytest

from trainables.base.errors import CodeError, DataFileError, InputError, foreign_code


def raised_for(error: BaseException, **options: tuple[type[Exception], ...]) -> BaseException:
    try:
        with foreign_code(DataFileError, "dataset x: ", **options):
            raise error
    except BaseException as found:
        return found


@pytest.mark.parametrize(
    "error", [ValueError("two\n lines"), SystemExit("two\nlines"), CodeError("two lines")]
)
def test_it_becomes_one_line_with_its_type(error: BaseException) -> None:
    found = raised_for(error)
    assert type(found) is DataFileError
    assert str(found) == f"dataset x: {type(error).__name__}: two lines"
    assert found.__cause__ is error


def test_ctrl_c_and_what_is_already_a_line_pass() -> None:
    stop, line = KeyboardInterrupt(), InputError("one line")
    assert raised_for(stop) is stop
    assert raised_for(line, passed=(InputError,)) is line


def test_a_long_text_is_cut() -> None:
    assert str(raised_for(ValueError("x" * 1000))) == "dataset x: ValueError: " + "x" * 300
