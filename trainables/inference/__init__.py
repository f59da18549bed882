"""What leaves the product: a predictor that needs torch alone, and the formats that it is written in."""
