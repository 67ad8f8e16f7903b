"""Floor 2: from a spec and the facts of a host to a plan. Pure: nothing here touches the system."""
