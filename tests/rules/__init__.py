"""Rules about the source itself: what CONTRIBUTING.md says in words, held here by tests."""
