"""The processes of a running platform and how they are put together: supervisor, gateways, controller, workers."""
