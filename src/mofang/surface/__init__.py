"""What the outside touches: the Python client, protocols, control API, server and command."""
