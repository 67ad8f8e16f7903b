"""Floor 7: the command line. Parses, asks the engine, renders."""
