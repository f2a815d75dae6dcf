"""The systems of arXiv 2507.18485 and 2502.21179 as campaign files."""
