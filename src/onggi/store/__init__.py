"""Floor 4: what Onggi remembers: content, images, layers, snapshots, containers, volumes, events."""
