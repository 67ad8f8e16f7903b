"""The guide's app.py: one page that says where it was answered."""

import os
import socket

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    """Answer with the container's own host name and process id."""
    return f"Hello from Flask, process {os.getpid()} of container {socket.gethostname()}\n"


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=5000)
