"""Floor 5: what a container is over its life, and how requests become OCI bundles."""
