"""Floor 1: the formats that others defined (OCI, Docker) as typed values; parse and print, no effects."""
