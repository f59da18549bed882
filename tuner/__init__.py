"""The service that runs studies; the packages are listed bottom to top in `tests/unit/test_architecture.py`."""
