"""Results of a study: choice of the winner, verdict on the claim, wording of metrics, columns of tables."""
