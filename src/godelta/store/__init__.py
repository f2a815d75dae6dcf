"""The database: what is kept of a campaign."""
