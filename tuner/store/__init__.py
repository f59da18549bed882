"""What a run stores: run folder, the database of its trials, checkpoints that stay, and the lease to write them."""
