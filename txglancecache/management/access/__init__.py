"""Who may use the management site, and what a browser must not be tricked into."""
