"""MLflow stores to write to."""

from pathlib import Path

import pytest

from tests.tracking.stores import copy_empty_store


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """The URI of an empty SQLite store."""
    return f"sqlite:///{copy_empty_store(tmp_path)}"
