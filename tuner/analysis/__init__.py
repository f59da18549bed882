"""Results of a study, the choice of the winner, the verdict on the claim."""
