"""Search methods on foundation + Δ."""
