"""What a study says of a worker that is gone, from what Ray says of it."""

from tuner.execution.ray_tune_adapter import worker_error_text

CREATION = """The actor died because of an error raised in its creation task, \x1b[36mray::T.__init__()\x1b[39m
           ^^^^^^^^^^^^^^^^^^^
  File "trainable.py", line 9, in __init__
    self.setup(copy.deepcopy(self.config))
ValueError: no such folder: 'data'"""


def test_what_a_workers_creation_raised_is_named():
    assert worker_error_text(RuntimeError(CREATION)) == (
        "The actor died because of an error raised in its creation task: ValueError: no such folder: 'data'"
    )


def test_without_a_traceback_every_line_counts():
    text = "The actor died unexpectedly before finishing this task.\n\tclass_name: Trial\n\tpid: 7\n"
    assert worker_error_text(RuntimeError(text)) == (
        "The actor died unexpectedly before finishing this task. class_name: Trial pid: 7"
    )


def test_a_long_text_is_cut():
    assert worker_error_text(RuntimeError("x" * 999)) == "x" * 300 + " ..."
