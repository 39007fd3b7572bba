"""What the outside touches: the Python client, protocols, control API, console, server and command."""
