"""The Δ-model: a Gaussian process on the difference between reference and foundation."""
