"""Onggi: a container platform in one wheel."""
