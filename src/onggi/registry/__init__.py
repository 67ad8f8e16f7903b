"""Floor 5: registries: where they are, who we are there, the distribution API, and what goes over it."""
