"""The benchmark: Onggi and its peers as whole processes, measured in turn."""
