"""Numbers, moments and formulas as a user writes them. May import: `errors`."""
