"""Floor 6: the engine, which surfaces ask. One object over one state root."""
