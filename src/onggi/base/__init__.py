"""Floor 0: errors, identities and units, known to every floor."""
