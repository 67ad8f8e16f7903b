"""Floor 3: every effect on the host. Nothing above calls the kernel itself."""
