"""The Dockerfile language: text to instructions, and the expansion of variables. Pure."""
