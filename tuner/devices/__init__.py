"""CPU and GPU allocation per trial, measured where there is a GPU."""
