"""Floor 5: builds. A Dockerfile becomes a graph of content-addressed vertices; a solver runs what is missing."""
